//! Prints the messages of a topic: `cargo run --example consumer -- 127.0.0.1:4150 orders`.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::convert::Infallible;

use nsq_client::{Config, Consumer, Message};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:4150".to_owned());
    let topic = args.next().unwrap_or_else(|| "orders".to_owned());
    let consumer = Consumer::builder(&topic, "example#ephemeral")
        .config(Config { max_in_flight: 200, ..Config::default() })
        .concurrent_handlers(4, async |message: Message| {
            println!("{}", String::from_utf8_lossy(message.body()));
            Ok::<_, Infallible>(())
        })
        .build()?;
    consumer.connect_to_nsqd(&address).await?;
    tokio::signal::ctrl_c().await?;
    println!("{:?}", consumer.stop().await);
    Ok(())
}
