//! Metrics in the text format of Prometheus, version 0.0.4.
//!
//! Counters belong to whatever they count; a [`Page`] is written from them when it is asked for. So there is no
//! registry: nothing has to be taken out of one when a topic is deleted.
//!
//! ```
//! use nsq_daemon::metrics::{Family, Labels, Page};
//!
//! const DEPTH: Family = Family::gauge("nsqd_topic_depth", "Messages that wait at the topic.");
//!
//! let mut page = Page::default();
//! page.family(&DEPTH).add(&Labels::new("topic", "orders"), 3_u64);
//! assert!(page.text().ends_with("nsqd_topic_depth{topic=\"orders\"} 3\n"));
//! ```

mod histogram;
mod page;
mod process;

pub use self::{
    histogram::Histogram,
    page::{Family, Kind, Labels, Page, Samples, Value},
    process::write_process,
};
