//! The auth servers, which decide what clients may do.

mod pattern;
mod permissions;

use std::{
    hash::{BuildHasher, RandomState},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use nsq_daemon::{
    http::StatusCode,
    http_client::{Client, InvalidUrl, RequestError, Trust, Url, append_form},
    log::Logger,
    tls::TlsError,
};
use serde::Serialize;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::spawn_blocking,
};

use self::permissions::InvalidPermissions;
pub(crate) use self::permissions::Permissions;
use crate::{
    meters::{Limit, Meters},
    options::{AuthMethod, Descriptors, Options},
};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The auth servers of an nsqd.
#[derive(Debug)]
pub(crate) struct AuthServers {
    servers: Vec<Server>,
    method: AuthMethod,
    client: Client,
    /// The queries that may be under way: each holds a descriptor, and clients decide how many there are.
    queries: Semaphore,
    /// The server that is asked first next time. It starts anywhere, so that the nsqds of a cluster share the servers.
    next: AtomicUsize,
}

#[derive(Debug)]
struct Server {
    /// The server, as the log names it.
    name: String,
    url: Result<Url, InvalidUrl>,
}

/// A client's secret, and the connection it came on.
pub(crate) struct Credentials {
    pub(crate) secret: Box<[u8]>,
    /// Empty for a client on this machine that has no address.
    pub(crate) remote_ip: String,
    pub(crate) tls: bool,
    /// The name in the client's certificate, empty without.
    pub(crate) common_name: String,
}

/// Why no auth server has given permissions.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.text())]
pub(crate) struct AuthError(Vec<(String, ServerError)>);

/// Why a server has not given permissions. Its answer is not shown: it may repeat the client's secret.
#[derive(Debug, thiserror::Error)]
enum ServerError {
    #[error("{0}")]
    Url(#[from] InvalidUrl),
    #[error("{0}")]
    Request(RequestError),
    #[error("got response {0}")]
    Status(StatusCode),
    #[error("{0}")]
    Permissions(#[from] InvalidPermissions),
    #[error("{0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// The parameters of a POST: a list of values for each.
#[derive(Serialize)]
struct Parameters<'a> {
    common_name: [&'a str; 1],
    remote_ip: [&'a str; 1],
    secret: [&'a str; 1],
    tls: [&'a str; 1],
}

/// The auth servers that the options name, if any. Blocks.
///
/// # Errors
/// When `--tls-root-ca-file` cannot be used.
pub(crate) fn load(options: &Options, logger: &Logger) -> Result<Option<AuthServers>, TlsError> {
    if options.auth_http_addresses.is_empty() {
        return Ok(None);
    }
    let servers: Vec<_> =
        options.auth_http_addresses.iter().map(|name| Server::new(name)).collect();
    for Server { name, url } in &servers {
        if let Err(error) = url {
            logger.error(format_args!("AUTH: {name} will not be asked - {error}"));
        }
    }
    let limits = options.http_client_limits();
    let min_version = options.tls.min_version.spoken();
    let trust = match options.tls.root_ca_file.as_str() {
        "" => Trust::system(min_version),
        path => Trust::file(Path::new(path), min_version)?,
    };
    let anywhere = RandomState::new().hash_one(());
    Ok(Some(AuthServers {
        servers,
        method: options.auth_http_request_method,
        client: Client::new(limits).answers_up_to(ANSWER_BYTES_MAX).trusting(trust),
        queries: Semaphore::new(Descriptors::of_process(&options.shares).auth_queries),
        next: AtomicUsize::new(usize::try_from(anywhere).unwrap_or_default()),
    }))
}

impl AuthServers {
    /// Asks one server after the other for a client's permissions, once few enough other queries are under way.
    ///
    /// # Errors
    /// When none of them gives any.
    pub(crate) async fn query(
        &self,
        credentials: &Credentials,
        meters: &Meters,
    ) -> Result<Permissions, AuthError> {
        let _place = self.place(meters).await;
        let count = self.servers.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed) % count;
        let mut failures = Vec::new();
        for server in self.servers.iter().cycle().skip(first).take(count) {
            match self.ask(server, credentials).await {
                Ok(permissions) => return Ok(permissions),
                Err(error) => failures.push((server.name.clone(), error)),
            }
        }
        Err(AuthError(failures))
    }

    /// A place among the queries that are under way.
    async fn place(&self, meters: &Meters) -> Option<SemaphorePermit<'_>> {
        if let Ok(place) = self.queries.try_acquire() {
            return Some(place);
        }
        meters.reached(Limit::AuthQueries);
        // Never closed.
        self.queries.acquire().await.ok()
    }

    async fn ask(
        &self,
        server: &Server,
        credentials: &Credentials,
    ) -> Result<Permissions, ServerError> {
        let url = server.url.clone()?;
        let answer = match self.method {
            AuthMethod::Get => self.client.get(&url.with_query(&credentials.query())).await?,
            AuthMethod::Post => self.client.post(&url, credentials.document()).await?,
        };
        // Checking many patterns would hold up the connections of this thread.
        Ok(spawn_blocking(move || Permissions::parse(&answer)).await??)
    }
}

impl Server {
    /// Takes an entry of `--auth-http-address`: `host:port`, or a URL.
    fn new(entry: &str) -> Self {
        let url = match entry.contains("://") {
            true => entry.parse(),
            false => format!("http://{entry}/auth").parse(),
        };
        // The log does not show what may be a password.
        let name = entry.split('?').next().unwrap_or_default();
        let name = name.rsplit_once('@').map_or(name, |(_, host)| host);
        Self { name: name.to_owned(), url }
    }
}

impl Credentials {
    fn tls(&self) -> &'static str {
        if self.tls { "true" } else { "false" }
    }

    /// The query of a GET.
    fn query(&self) -> String {
        let mut query = String::new();
        append_form(&mut query, "common_name", self.common_name.as_bytes());
        append_form(&mut query, "remote_ip", self.remote_ip.as_bytes());
        append_form(&mut query, "secret", &self.secret);
        append_form(&mut query, "tls", self.tls().as_bytes());
        query
    }

    /// The document of a POST.
    fn document(&self) -> Bytes {
        let parameters = Parameters {
            common_name: [&self.common_name],
            remote_ip: [&self.remote_ip],
            secret: [&String::from_utf8_lossy(&self.secret)],
            tls: [self.tls()],
        };
        serde_json::to_vec(&parameters).expect("lists of texts").into()
    }
}

impl AuthError {
    fn text(&self) -> String {
        let failure = |(server, error)| format!("failed to auth against {server} - {error}");
        let failures: Vec<_> =
            self.0.iter().map(|(server, error)| (server, error)).map(failure).collect();
        failures.join("; ")
    }
}

impl From<RequestError> for ServerError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Status { status, .. } => Self::Status(status),
            error => Self::Request(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_sorted_and_escaped_the_way_of_the_method() {
        let credentials = Credentials {
            secret: Box::from(&b"a b&\xff\""[..]),
            remote_ip: "::1".to_owned(),
            tls: true,
            common_name: "me".to_owned(),
        };
        let query = "common_name=me&remote_ip=%3A%3A1&secret=a+b%26%FF%22&tls=true";
        assert_eq!(credentials.query(), query);
        let document = "{\"common_name\":[\"me\"],\"remote_ip\":[\"::1\"],\"secret\":[\"a b&\u{fffd}\\\"\"],\"tls\":[\"true\"]}";
        assert_eq!(credentials.document(), document);
    }

    #[test]
    fn a_server_is_an_address_or_a_url() {
        let target = |name| Server::new(name).url.map(|url| url.to_string());
        assert_eq!(target("auth:80").as_deref(), Ok("http://auth:80/auth"));
        assert_eq!(target("https://auth/x").as_deref(), Ok("https://auth/x"));
        assert_eq!(target("ldap://auth"), Err(InvalidUrl::Scheme));
    }

    #[test]
    fn the_log_names_a_server_without_its_passwords() {
        assert_eq!(Server::new("auth:80").name, "auth:80");
        assert_eq!(Server::new("http://auth/x?key=s3cret").name, "http://auth/x");
        assert_eq!(Server::new("http://me:s3cret@auth/x").name, "auth/x");
    }
}
