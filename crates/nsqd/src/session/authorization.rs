//! The authorization of a connection: its permissions until they expire, and the query for new ones.

use std::{collections::HashSet, sync::Arc};

use foldhash::fast::RandomState;
use tokio::{
    task::{JoinError, JoinSet},
    time::Instant,
};

use crate::{
    auth::{AuthError, AuthServers, Credentials, Permissions},
    topic::{client::Client, services::Services},
};

/// The most topics whose authorization is remembered.
const TOPICS_MAX: usize = 1024;

/// The authorization of a connection.
pub(super) struct Authorization {
    servers: Arc<AuthServers>,
    /// Known since AUTH, to ask again when the permissions have expired.
    credentials: Option<Arc<Credentials>>,
    granted: Option<Granted>,
    /// AUTH has been answered with success.
    is_authenticated: bool,
    /// The task that asks the auth servers, while they are asked. It ends with the connection.
    query: JoinSet<Result<Permissions, AuthError>>,
}

/// Permissions, and what they were found to allow.
struct Granted {
    permissions: Permissions,
    expire: Instant,
    /// Topics that the client may publish to, so that the patterns are not tried with every batch.
    publishable: HashSet<Box<str>, RandomState>,
}

/// An action that needs a permission.
#[derive(Copy, Clone)]
pub(super) enum Action<'a> {
    Publish { topic: &'a str },
    Subscribe { topic: &'a str, channel: &'a str },
}

/// The decision about an action.
pub(super) enum Decision {
    Allowed,
    Denied,
    /// There was no AUTH.
    AuthFirst,
    /// The permissions have expired; these credentials are good for new ones.
    Expired(Arc<Credentials>),
}

/// Why there are no permissions.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Panicked(#[from] JoinError),
}

impl Authorization {
    /// The authorization of a new connection; `None` if there are no auth servers, and everything is allowed.
    pub(super) fn new(servers: Option<&Arc<AuthServers>>) -> Option<Box<Self>> {
        let servers = servers?.clone();
        Some(Box::new(Self {
            servers,
            credentials: None,
            granted: None,
            is_authenticated: false,
            query: JoinSet::new(),
        }))
    }

    /// Asks the auth servers. `client` is woken when there is an answer.
    pub(super) fn ask(
        &mut self,
        credentials: Arc<Credentials>,
        client: Arc<Client>,
        services: Arc<Services>,
    ) {
        self.credentials = Some(credentials.clone());
        let servers = self.servers.clone();
        self.query.spawn(async move {
            // The session runs on the same thread, so this task has ended before the session looks.
            let _wake = WakeOnDrop(client);
            servers.query(&credentials, &services.meters).await
        });
    }

    /// Returns whether the auth servers are being asked.
    pub(super) fn is_pending(&self) -> bool {
        !self.query.is_empty()
    }

    /// Takes the answer of the auth servers; `None` if there is none yet.
    pub(super) fn answered(&mut self, now: Instant) -> Option<Result<&Permissions, QueryError>> {
        let answer = self.query.try_join_next()?;
        Some(match answer.map_err(QueryError::from) {
            Ok(Ok(permissions)) => {
                Ok(&self.granted.insert(Granted::new(permissions, now)).permissions)
            }
            Ok(Err(error)) => Err(error.into()),
            Err(panic) => Err(panic),
        })
    }

    /// The permissions that an answer has brought, if any.
    pub(super) fn permissions(&self) -> Option<&Permissions> {
        self.granted.as_ref().map(|granted| &granted.permissions)
    }

    /// Returns whether AUTH has been answered with success.
    pub(super) fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// Notes that AUTH is answered with success; the permissions count from now on.
    pub(super) fn mark_authenticated(&mut self) {
        self.is_authenticated = true;
    }

    pub(super) fn decide(&mut self, action: Action<'_>, now: Instant) -> Decision {
        let (Some(granted), Some(credentials), true) =
            (&mut self.granted, &self.credentials, self.is_authenticated)
        else {
            return Decision::AuthFirst;
        };
        if now > granted.expire {
            return Decision::Expired(credentials.clone());
        }
        let allowed = match action {
            Action::Publish { topic } => granted.may_publish(topic),
            Action::Subscribe { topic, channel } => {
                granted.permissions.may_subscribe(topic, channel)
            }
        };
        if allowed { Decision::Allowed } else { Decision::Denied }
    }
}

impl Granted {
    fn new(permissions: Permissions, now: Instant) -> Self {
        let expire = now + permissions.ttl;
        Self { permissions, expire, publishable: HashSet::default() }
    }

    fn may_publish(&mut self, topic: &str) -> bool {
        if self.publishable.contains(topic) {
            return true;
        }
        let allowed = self.permissions.may_publish(topic);
        if allowed {
            if self.publishable.len() == TOPICS_MAX {
                self.publishable.clear();
            }
            self.publishable.insert(topic.into());
        }
        allowed
    }
}

/// Wakes a client's session, also after a panic.
struct WakeOnDrop(Arc<Client>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake();
    }
}
