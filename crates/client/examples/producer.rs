//! Publishes its arguments to a topic: `cargo run --example producer -- 127.0.0.1:4150 orders one two three`.

use std::time::Duration;

use nsq_client::{Config, Producer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:4150".to_owned());
    let topic = args.next().unwrap_or_else(|| "orders".to_owned());
    let producer = Producer::new(&address, Config::default())?;
    for message in args {
        producer.publish(&topic, message.as_bytes()).await?;
    }
    producer.multi_publish(&topic, &["two at", "once"]).await?;
    producer.deferred_publish(&topic, Duration::from_secs(1), b"a second later").await?;
    producer.close(Duration::from_secs(5)).await;
    Ok(())
}
