//! Log lines on stderr, from the tools and from the client library.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
};

use jiff::Zoned;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Writes `text` to stderr as one line, preceded by the local date and time.
pub(crate) fn line(text: impl fmt::Display) {
    let line = format!("{} {text}\n", Zoned::now().strftime("%Y/%m/%d %H:%M:%S"));
    // If stderr is closed there is nowhere to report it.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Writes the client library's events of level INFO and above to stderr. Does nothing if a subscriber is already set.
pub(crate) fn show_client_events() {
    let _ = tracing::subscriber::set_global_default(ClientEvents);
}

/// Writes `INF [topic/channel] (host:port) text key=value`.
struct ClientEvents;

impl Subscriber for ClientEvents {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("nsq_client")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        line(fields.render(*event.metadata().level()));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Fields {
    message: String,
    topic: String,
    channel: String,
    nsqd: String,
    others: String,
}

impl Fields {
    fn render(&self, level: Level) -> String {
        let mut text = match level {
            Level::ERROR => "ERR",
            Level::WARN => "WRN",
            _ => "INF",
        }
        .to_owned();
        // Writing to a String cannot fail.
        if !self.topic.is_empty() {
            let _ = write!(text, " [{}/{}]", self.topic, self.channel);
        }
        if !self.nsqd.is_empty() {
            let _ = write!(text, " ({})", self.nsqd);
        }
        let _ = write!(text, " {}{}", self.message, self.others);
        text
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let target = match field.name() {
            "message" => &mut self.message,
            "topic" => &mut self.topic,
            "channel" => &mut self.channel,
            "nsqd" => &mut self.nsqd,
            name => {
                let _ = write!(self.others, " {name}={value:?}");
                return;
            }
        };
        let _ = write!(target, "{value:?}");
    }
}
