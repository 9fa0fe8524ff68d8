//! `/metrics`: the figures of the node, and of its topics and channels, in the text format of Prometheus.
//!
//! A page is written when it is asked for, on a thread that may block. Topics and channels are visited one after the
//! other, and locked only while their figures are copied.

mod node;
mod room;
mod survey;
mod topics;

use std::sync::Arc;

use nsq_daemon::{
    http::{Error, Request},
    metrics::{Page, write_process},
};

use self::survey::Survey;
use super::blocking;
use crate::node::Node;

/// The usual length of the part about the node and the process.
const NODE_BYTES: usize = 16 << 10;
/// The usual length of a sample of a topic or a channel.
const SAMPLE_BYTES: usize = 80;

pub(super) async fn show(node: Arc<Node>, _: Request) -> Result<Page, Error> {
    blocking(&node, |node| page(node)).await
}

fn page(node: &Node) -> Page {
    let survey = Survey::of(node, &topics::series(&node.services.options));
    let mut page = Page::with_capacity(NODE_BYTES + survey.series * SAMPLE_BYTES);
    node::write(&mut page, node, &survey);
    topics::write(&mut page, &survey);
    write_process(&mut page);
    page
}
