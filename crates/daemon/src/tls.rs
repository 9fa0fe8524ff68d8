//! TLS of a server: its certificate, its demands on clients, and the files that both are read from.
//!
//! TLS 1.2 and 1.3 are spoken. The files can be replaced while the server runs; see [`ServerTls::watch`].
//!
//! rustls has limits that older libraries do not have: RSA keys have 2048 bits at least, those of elliptic curves are on
//! P-256, P-384 or Curve25519, and certificates of clients that are verified are of version 3, which `openssl x509 -req` of
//! older versions makes only if it is given extensions.

mod client_auth;
pub mod der;
mod files;
mod https;
mod roots;
mod version_1;
mod watch;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
};

use tokio_rustls::rustls::{
    self, CipherSuite, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::pem,
    server::danger::ClientCertVerifier,
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};

pub use self::https::{HANDSHAKE_TIME_MAX, HttpsListener};
use self::watch::Stamp;
pub(crate) use self::{
    files::certificates,
    roots::{roots, system_roots},
};
use crate::log::Logger;

/// The protocol that HTTPS clients may ask for by ALPN.
const ALPN_HTTP: &[u8] = b"http/1.1";

/// The files and rules of a server's TLS.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The certificate chain in PEM, the server's own certificate first.
    pub certificate_file: PathBuf,
    /// The private key in PEM: PKCS#8, PKCS#1 or SEC1. It may be the same file.
    pub key_file: PathBuf,
    /// The demand on the certificates of clients.
    pub client_auth: ClientAuth,
    /// The authorities that client certificates are verified against, in PEM; those of the system if there is no file.
    pub root_ca_file: Option<PathBuf>,
    /// The oldest version that a client may use.
    pub min_version: MinVersion,
}

/// The demand on the certificates of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate is asked for.
    NotRequested,
    /// Any certificate will do, whoever signed it, but the client must have its key.
    AnyCertificate,
    /// The certificate must come from a trusted authority.
    VerifiedCertificate,
}

/// The oldest version of TLS that a client may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl MinVersion {
    /// The versions that may be used.
    pub(crate) fn and_newer(self) -> &'static [&'static SupportedProtocolVersion] {
        const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        match self {
            Self::Tls12 => VERSIONS,
            Self::Tls13 => &VERSIONS[..1],
        }
    }
}

/// The reason why files cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("open {}: {}", .path.display(), files::plain(.source))]
    Open {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The content of a file is not what it should be.
    #[error("{}: {problem}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The reason.
        problem: Problem,
    },
    /// The private key is not the one of the certificate.
    #[error("{}: private key does not match the certificate in {}", .key.display(), .certificate.display())]
    Mismatch {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the private key.
        key: PathBuf,
    },
    /// The certificate authorities of the system cannot be found.
    #[error("no certificate authorities found in the system: {0}")]
    SystemRoots(String),
}

/// The problem with a file's content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// There is no certificate.
    #[error("no certificate found")]
    NoCertificate,
    /// There is no private key.
    #[error("no private key found")]
    NoKey,
    /// The private key is encrypted, and a daemon cannot ask for its password.
    #[error("private key is encrypted")]
    EncryptedKey,
    /// The PEM is malformed.
    #[error("{0}")]
    Pem(pem::Error),
    /// The certificate is malformed.
    #[error("invalid certificate: {0}")]
    Certificate(rustls::Error),
    /// The private key is malformed or of an unsupported kind.
    #[error("unusable private key: {0}")]
    Key(rustls::Error),
}

/// The TLS of a server. Clones share the certificate that is in use.
#[derive(Debug, Clone)]
pub struct ServerTls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    configs: RwLock<Configs>,
    /// The state of the files when they were read last; held while they are read.
    read: Mutex<Stamp>,
}

/// The configurations in use; they differ in ALPN only.
#[derive(Debug, Clone)]
struct Configs {
    plain: Arc<ServerConfig>,
    https: Arc<ServerConfig>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn load(settings: Settings) -> Result<Self, TlsError> {
        let stamp = Stamp::take(&settings);
        let configs = RwLock::new(Configs::load(&settings)?);
        Ok(Self { shared: Arc::new(Shared { settings, configs, read: Mutex::new(stamp) }) })
    }

    /// The configuration for the next connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.configs().plain)
    }

    /// The configuration for the next HTTPS connection: it tells clients that HTTP/1.1 is spoken.
    pub(crate) fn https_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.configs().https)
    }

    fn configs(&self) -> RwLockReadGuard<'_, Configs> {
        self.shared.configs.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files again, for the connections to come, and returns whether they could be used. If not, the
    /// certificate in use stays, and the log says why. This waits for the disk.
    pub fn reload(&self, logger: &Logger) -> bool {
        let shared = &*self.shared;
        let mut read = shared.read.lock().unwrap_or_else(PoisonError::into_inner);
        *read = Stamp::take(&shared.settings);
        match Configs::load(&shared.settings) {
            Ok(configs) => {
                *shared.configs.write().unwrap_or_else(PoisonError::into_inner) = configs;
                let path = shared.settings.certificate_file.display();
                logger.info(format_args!("TLS: now using the certificate in {path}"));
                true
            }
            Err(error) => {
                logger.error(format_args!("TLS: keeping the certificate in use - {error}"));
                false
            }
        }
    }
}

impl Configs {
    fn load(settings: &Settings) -> Result<Self, TlsError> {
        let plain = server_config(settings)?;
        let mut https = plain.clone();
        https.alpn_protocols = vec![ALPN_HTTP.to_vec()];
        Ok(Self { plain: Arc::new(plain), https: Arc::new(https) })
    }
}

fn server_config(settings: &Settings) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(provider());
    let identity = files::identity(settings, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(settings.min_version.and_newer())
        .expect("the provider knows both versions");
    let builder = match client_verifier(settings, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.ignore_client_order = true;
    Ok(config)
}

/// The algorithms, AES-128 first: of those that are safe it costs the least, and `/stats` has a name for it.
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    provider
}

/// The check of client certificates. The file with the authorities has to be good even if nothing is verified, so that
/// a mistake in it shows at once.
fn client_verifier(
    settings: &Settings,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let authorities = settings.root_ca_file.as_deref().map(certificates).transpose()?;
    Ok(match settings.client_auth {
        ClientAuth::NotRequested => None,
        ClientAuth::AnyCertificate => Some(client_auth::any(provider)),
        ClientAuth::VerifiedCertificate => Some(match (authorities, &settings.root_ca_file) {
            (Some(authorities), Some(path)) => client_auth::signed_by(authorities, provider)
                .map_err(|problem| TlsError::Content { path: path.clone(), problem })?,
            _ => client_auth::signed_by_system_roots(provider)?,
        }),
    })
}
