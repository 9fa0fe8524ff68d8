//! IDENTIFY: the client's settings, and the features that it gets.

use nsq_protocol::{ClientError, Code, OK, Phase};
use tokio::time::Instant;

use super::{Session, create::Stop, failure::failed, identify::Wanted, upgrade::Upgrade};
use crate::{
    node::Node,
    options::{Options, TlsRequired},
    session::identify::Identify,
    topic::client::{Compression, Upgrades},
};

/// The level of compression unless a client asks for another one.
const DEFLATE_LEVEL: i64 = 6;

/// The features that a client gets. They are told to it, and the connection is upgraded then.
pub(super) struct Features {
    pub(super) tls: bool,
    pub(super) compression: Option<Compression>,
    /// Told in any case.
    pub(super) deflate_level: i64,
}

impl Features {
    /// Grants what is wanted and possible.
    ///
    /// `present` are the upgrades of an earlier IDENTIFY. They stay, and none is made twice: `true` means that an upgrade
    /// follows, so it is `false` for these. TLS has to be the first layer.
    ///
    /// # Errors
    /// When two compressions are wanted.
    fn grant(
        wanted: Wanted,
        has_certificate: bool,
        present: &Upgrades,
        options: &Options,
    ) -> Result<Self, ClientError> {
        let (deflate, snappy) =
            (wanted.deflate && options.deflate, wanted.snappy && options.snappy);
        if deflate && snappy {
            let text = "cannot enable both deflate and snappy compression";
            return Err(ClientError::new(Code::IdentifyFailed, text));
        }
        let level =
            if deflate && wanted.deflate_level > 0 { wanted.deflate_level } else { DEFLATE_LEVEL };
        let deflate_level = level.min(options.max_deflate_level);
        let compression = match (snappy, deflate) {
            _ if present.compression.is_some() => None,
            (true, _) => Some(Compression::Snappy),
            (_, true) => Some(Compression::Deflate(u8::try_from(deflate_level).unwrap_or(1))),
            (false, false) => None,
        };
        let tls = wanted.tls && has_certificate && present.are_none();
        Ok(Self { tls, compression, deflate_level })
    }
}

/// The phase of a connection on which nothing has been said.
pub(super) fn first_phase(node: &Node) -> Phase {
    match node.services.options.tls.required {
        TlsRequired::No => Phase::Init,
        TlsRequired::ExceptHttp | TlsRequired::Yes => Phase::TlsRequired,
    }
}

impl Session {
    pub(super) fn identify(&mut self, body: &[u8]) -> Result<(), Stop> {
        let services = self.node.services.clone();
        let identify = match Identify::parse(body, &services.options) {
            Ok(identify) => identify,
            Err(error) => return self.refuse(&error),
        };
        self.settings.update(&identify, &services.options);
        self.liveness.set_interval(identify.heartbeat_interval, Instant::now());
        self.enter_init();
        let (negotiates, wanted) = (identify.feature_negotiation, identify.wanted);
        self.client.describe(|about| identify.describe(about));
        if !negotiates {
            self.answer(OK);
            return Ok(());
        }
        let present = self.client.upgrades();
        let features =
            match Features::grant(wanted, services.tls.is_some(), &present, &services.options) {
                Ok(features) => features,
                Err(error) => return self.refuse(&error),
            };
        match serde_json::to_vec(&self.settings.negotiation(&features, &services.options)) {
            Ok(json) => self.answer(&json),
            Err(error) => return self.refuse(&failed(Code::IdentifyFailed, error)),
        }
        let tls = services.tls.as_ref().filter(|_| features.tls).map(|tls| tls.config());
        match Upgrade::new(tls, features.compression) {
            None => Ok(()),
            Some(upgrade) => Err(Stop::Upgrade(Box::new(upgrade))),
        }
    }

    /// Enters the phase that follows from IDENTIFY and TLS.
    pub(super) fn enter_init(&mut self) {
        self.phase = match first_phase(&self.node) {
            Phase::TlsRequired if self.client.upgrades().tls.is_none() => Phase::TlsRequired,
            _ if self.liveness.has_heartbeats() => Phase::Init,
            _ => Phase::InitWithoutHeartbeats,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(
        wanted: Wanted,
        present: &Upgrades,
        options: &Options,
    ) -> (bool, Option<Compression>, i64) {
        let features = Features::grant(wanted, true, present, options).unwrap();
        (features.tls, features.compression, features.deflate_level)
    }

    #[test]
    fn the_level_of_deflate_is_the_one_asked_for_up_to_the_highest_allowed() {
        let options = Options { max_deflate_level: 7, ..Options::default() };
        for (asked, level) in [(0, 6), (-1, 6), (1, 1), (7, 7), (8, 7), (i64::MAX, 7)] {
            let wanted = Wanted { deflate: true, deflate_level: asked, ..Wanted::default() };
            let expected = (false, Some(Compression::Deflate(u8::try_from(level).unwrap())), level);
            assert_eq!(granted(wanted, &Upgrades::default(), &options), expected, "{asked}");
            // Without deflate the level that is asked for does not matter.
            let wanted = Wanted { deflate: false, ..wanted };
            assert_eq!(
                granted(wanted, &Upgrades::default(), &options),
                (false, None, 6),
                "{asked}"
            );
        }
        let options = Options { max_deflate_level: 3, ..Options::default() };
        assert_eq!(granted(Wanted::default(), &Upgrades::default(), &options).2, 3);
    }

    #[test]
    fn no_upgrade_is_made_twice_and_tls_comes_first() {
        let wanted = Wanted { tls: true, snappy: true, ..Wanted::default() };
        let options = Options::default();
        let encrypted = Upgrades { tls: Some(Default::default()), compression: None };
        let compressed = Upgrades { tls: None, compression: Some(Compression::Deflate(6)) };
        let snappy = Some(Compression::Snappy);
        assert_eq!(granted(wanted, &Upgrades::default(), &options), (true, snappy, 6));
        assert_eq!(granted(wanted, &encrypted, &options), (false, snappy, 6));
        assert_eq!(granted(wanted, &compressed, &options), (false, None, 6));
    }
}
