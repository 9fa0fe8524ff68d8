//! The consumer of the README: `cargo run -p nsq-client --example readme`.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use nsq_client::{Consumer, Message};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let consumer = Consumer::builder("greetings", "readme")
        .handler(|message: Message| async move {
            println!("{}", String::from_utf8_lossy(message.body()));
            Ok::<(), std::io::Error>(())
        })
        .build()?;
    consumer.connect_to_nsqlookupd("127.0.0.1:4161").await?;
    consumer.stopped().await;
    Ok(())
}
