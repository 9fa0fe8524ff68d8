//! Prints the messages of a topic from all nsqds that have it:
//! `cargo run --example discovery -- orders 127.0.0.1:4161`.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use nsq_client::{Config, Consumer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let topic = args.next().unwrap_or_else(|| "orders".to_owned());
    let mut messages = Consumer::builder(&topic, "example#ephemeral")
        .config(Config { max_in_flight: 200, ..Config::default() })
        .into_stream()?;
    messages.consumer().connect_to_nsqlookupds(args).await?;
    while let Some(message) = messages.recv().await {
        println!("{}", String::from_utf8_lossy(message.body()));
        message.finish();
    }
    Ok(())
}
