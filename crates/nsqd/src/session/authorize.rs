//! AUTH, and the authorization of SUB and publishes.
//!
//! The auth servers are asked by a task of its own, while the session delivers messages and sends heartbeats as ever.
//! The command that needs the answer stays in the input, like one that waits for its topic, and is decoded again.

use std::sync::Arc;

use nsq_daemon::json::escape_html;
use nsq_protocol::{ClientError, Code, quote};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    Session,
    authorization::{Action, Decision},
    create::Stop,
    failure::command_of,
};
use crate::auth::Credentials;

/// The answer to AUTH; its keys stand in this order on the wire.
#[derive(Serialize)]
struct AuthResponse<'a> {
    identity: &'a str,
    identity_url: &'a str,
    permission_count: usize,
}

impl Session {
    /// Returns whether the auth servers are being asked, and commands have to wait.
    pub(super) fn is_authorizing(&self) -> bool {
        self.authorization.as_ref().is_some_and(|authorization| authorization.is_pending())
    }

    /// Takes the answer of the auth servers, if they are being asked.
    ///
    /// # Errors
    /// While there is no answer, or when all of them have failed.
    pub(super) fn await_permissions(&mut self) -> Result<(), Stop> {
        let Some(authorization) = self.authorization.as_mut().filter(|it| it.is_pending()) else {
            return Ok(());
        };
        let now = Instant::now();
        // A client is not silent while its command waits.
        self.liveness.heard(now);
        match authorization.answered(now) {
            None => Err(Stop::Authorize),
            Some(Ok(permissions)) => {
                self.client.describe(|about| {
                    about.authed = permissions.count() > 0;
                    about.auth_identity.clone_from(&permissions.identity);
                    about.auth_identity_url.clone_from(&permissions.identity_url);
                });
                Ok(())
            }
            Some(Err(error)) => {
                // The client is not told why: it may be a stranger.
                let remote = self.client.remote;
                let line = format_args!("PROTOCOL(V2): [{remote}] AUTH failed {error}");
                self.node.services.clients_log.warn("failures of AUTH", line);
                self.refuse(&ClientError::new(Code::AuthFailed, "AUTH failed"))
            }
        }
    }

    /// Carries out AUTH.
    pub(super) fn auth(&mut self, secret: &[u8]) -> Result<(), Stop> {
        let Some(authorization) = &mut self.authorization else {
            return self.refuse(&ClientError::new(Code::AuthDisabled, "AUTH disabled"));
        };
        if authorization.is_authenticated() {
            return self.refuse(&ClientError::new(Code::Invalid, "AUTH already set"));
        }
        let Some(permissions) = authorization.permissions() else {
            let credentials = self.credentials(secret);
            return self.ask_auth_servers(credentials.into());
        };
        if permissions.count() == 0 {
            let text = "AUTH no authorizations found";
            return self.refuse(&ClientError::new(Code::Unauthorized, text));
        }
        let response = serde_json::to_vec(&AuthResponse {
            identity: &permissions.identity,
            identity_url: &permissions.identity_url,
            permission_count: permissions.count(),
        });
        authorization.mark_authenticated();
        match response {
            Ok(json) => self.answer(&escape_html(json)),
            Err(error) => {
                let text = format!("AUTH error {error}");
                return self.refuse(&ClientError::new(Code::AuthError, text));
            }
        }
        Ok(())
    }

    /// Checks that the client may publish to `topic`, once for a batch; `failure` tells the command.
    ///
    /// # Errors
    /// When it may not, or has to wait for the auth servers.
    pub(super) fn authorize_publish(&mut self, topic: &str, failure: Code) -> Result<(), Stop> {
        if self.authorization.is_none() {
            return Ok(());
        }
        self.authorize(command_of(failure), Action::Publish { topic })
    }

    /// Checks that the client may subscribe to a channel.
    ///
    /// # Errors
    /// When it may not, or has to wait for the auth servers.
    pub(super) fn authorize_subscribe(&mut self, topic: &str, channel: &str) -> Result<(), Stop> {
        self.authorize("SUB", Action::Subscribe { topic, channel })
    }

    fn authorize(&mut self, command: &str, action: Action<'_>) -> Result<(), Stop> {
        let Some(authorization) = &mut self.authorization else { return Ok(()) };
        match authorization.decide(action, Instant::now()) {
            Decision::Allowed => Ok(()),
            Decision::Expired(credentials) => self.ask_auth_servers(credentials),
            Decision::AuthFirst => {
                let text = format!("AUTH required before {command}");
                self.refuse(&ClientError::new(Code::AuthFirst, text))
            }
            Decision::Denied => {
                let (topic, channel) = match action {
                    Action::Publish { topic } => (topic, ""),
                    Action::Subscribe { topic, channel } => (topic, channel),
                };
                let (topic, channel) = (quote(topic.as_bytes()), quote(channel.as_bytes()));
                let text = format!("AUTH failed for {command} on {topic} {channel}");
                self.refuse(&ClientError::new(Code::Unauthorized, text))
            }
        }
    }

    fn credentials(&self, secret: &[u8]) -> Credentials {
        let tls = self.client.upgrades().tls;
        Credentials {
            secret: secret.into(),
            remote_ip: self.client.remote.ip_text(),
            tls: tls.is_some(),
            common_name: tls.map(|tls| tls.common_name.clone()).unwrap_or_default(),
        }
    }

    /// Lets the current command wait until the auth servers have answered.
    fn ask_auth_servers(&mut self, credentials: Arc<Credentials>) -> Result<(), Stop> {
        self.liveness.heard(Instant::now());
        if let Some(authorization) = &mut self.authorization {
            authorization.ask(credentials, self.client.clone(), self.node.services.clone());
        }
        Err(Stop::Authorize)
    }
}
