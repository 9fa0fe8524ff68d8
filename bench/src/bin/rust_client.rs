//! The Rust client under test in `nsq-bench client`. What it reads and writes is described in
//! `src/client/child.rs`.

use std::{
    collections::VecDeque,
    convert::Infallible,
    error::Error,
    future::ready,
    io::{self, Read, Write},
    process::ExitCode,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use nsq_client::{Config, Consumer, ConsumerBuilder, Message, Producer};
use tokio::{runtime, sync::oneshot};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If this cannot be written either, there is nowhere to report it.
            let _ = writeln!(io::stderr(), "nsq-bench-client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let command = args.next().ok_or("a command is missing")?;
    let options = Options(args.collect());
    let mut builder = match options.text("runtime") {
        Some("current") => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build()?;
    say("ready");
    let mut word = [0; 3];
    io::stdin().read_exact(&mut word)?;
    // In a task, as in most programs, rather than on the thread that blocks on the runtime.
    let work = runtime.spawn(async move {
        match command.as_str() {
            "consume" => consume(&options).await,
            "publish" => publish(&options).await,
            "idle" => idle(&options).await,
            other => Err(format!("unknown command {other}").into()),
        }
    });
    runtime.block_on(work)?
}

async fn consume(options: &Options) -> Result<()> {
    let received = Arc::new(AtomicU64::new(0));
    let all: u64 = options.number("messages")?;
    let most = all * 95 / 100;
    let handler = move |_: Message| {
        match received.fetch_add(1, Ordering::Relaxed) + 1 {
            count if count == most => say("most"),
            count if count == all => say("all"),
            _ => {}
        }
        ready(Ok::<_, Infallible>(()))
    };
    let consumer =
        builder(options)?.concurrent_handlers(options.number("handlers")?, handler).build()?;
    consumer.connect_to_nsqds(options.addresses()?).await?;
    stop(&consumer).await
}

async fn idle(options: &Options) -> Result<()> {
    let consumer =
        builder(options)?.handler(|_: Message| ready(Ok::<_, Infallible>(()))).build()?;
    consumer.connect_to_nsqds(options.addresses()?).await?;
    say("all");
    stop(&consumer).await
}

fn builder(options: &Options) -> Result<ConsumerBuilder> {
    let config = Config {
        max_in_flight: options.number("max-in-flight")?,
        heartbeat_interval: Some(Duration::from_millis(options.number("heartbeat-ms")?)),
        ..Config::default()
    };
    Ok(Consumer::builder(options.need("topic")?, options.need("channel")?).config(config))
}

async fn stop(consumer: &Consumer) -> Result<()> {
    told_to_stop().await?;
    consumer.stop().await;
    Ok(())
}

async fn publish(options: &Options) -> Result<()> {
    let producer = Producer::new(options.need("addresses")?, Config::default())?;
    let topic = options.need("topic")?;
    let messages: u64 = options.number("messages")?;
    let window: usize = options.number("window")?;
    let batch: usize = options.number("batch")?;
    let mut bodies = vec![vec![b'x'; options.number("body-bytes")?]; batch];
    let mut receipts = VecDeque::with_capacity(window);
    let mut seq: u64 = 0;
    while seq < messages {
        if receipts.len() == window
            && let Some(receipt) = receipts.pop_front()
        {
            receipt.await?;
        }
        for body in &mut bodies {
            body[..8].copy_from_slice(&seq.to_be_bytes());
            seq += 1;
        }
        receipts.push_back(match bodies.as_slice() {
            [body] => producer.enqueue(topic, body).await?,
            bodies => producer.enqueue_multi(topic, bodies).await?,
        });
    }
    for receipt in receipts {
        receipt.await?;
    }
    say("all");
    told_to_stop().await?;
    producer.close(Duration::from_secs(5)).await;
    Ok(())
}

/// Waits for the end of the input without occupying a thread of the runtime.
async fn told_to_stop() -> Result<()> {
    let (tell, told) = oneshot::channel();
    // The receiver is dropped only with the runtime.
    thread::spawn(move || tell.send(io::stdin().read_to_end(&mut Vec::new())));
    told.await??;
    Ok(())
}

fn say(word: &str) {
    // If this cannot be written the bench is gone, and this process ends with it.
    let _ = writeln!(io::stdout(), "{word}");
}

/// The arguments after the command, each `-name=value`.
struct Options(Vec<String>);

impl Options {
    fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find_map(|option| option.strip_prefix('-')?.strip_prefix(name)?.strip_prefix('='))
    }

    fn need(&self, name: &str) -> Result<&str> {
        self.text(name).ok_or_else(|| format!("-{name}=… is missing").into())
    }

    fn number<N: FromStr<Err: Error + Send + Sync + 'static>>(&self, name: &str) -> Result<N> {
        Ok(self.need(name)?.parse()?)
    }

    fn addresses(&self) -> Result<impl Iterator<Item = &str>> {
        Ok(self.need("addresses")?.split(','))
    }
}
