//! The neighbours, by what they take too much of.

mod connections;
mod consuming;
mod discovery;
mod identify;
mod names;
mod publishing;
mod web;

use crate::hostile::neighbour::{Neighbour, PLAIN, nothing};

/// Every neighbour, in the order of the table.
pub(crate) const ALL: &[&Neighbour] = &[
    &NONE,
    &connections::IDLE,
    &connections::CONNECTS,
    &connections::HTTP_CONNECTS,
    &discovery::NAMED_CHANNELS,
    &discovery::SILENT_LOOKUPD,
    &discovery::LOOKUPD_ADDRESSES,
    &identify::IDENTIFY_JSON,
    &identify::HUGE_STRINGS,
    &publishing::TINY_MESSAGES,
    &publishing::HALF_SENT,
    &publishing::EPHEMERAL_FLOOD,
    &consuming::DEAF,
    &consuming::FORGED_FINS,
    &names::EPHEMERAL_CHURN,
    &names::CHANNELS,
    &web::LONG_URIS,
    &web::STATS,
];

/// The noise of the machine, to compare the others with.
const NONE: Neighbour = Neighbour {
    name: "none",
    title: "nothing, which shows the noise of the machine",
    server: PLAIN,
    prepare: nothing,
    workers: 0,
    work: |_, _| {},
};
