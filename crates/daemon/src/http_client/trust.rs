//! The HTTPS servers that are trusted.

mod verifier;

use std::{
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use tokio::{net::TcpStream, task::spawn_blocking};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, client::danger::ServerCertVerifier, crypto::ring, pki_types::ServerName,
    },
};

use crate::tls::{MinVersion, TlsError};

/// The certificate authorities that HTTPS servers are verified with: those of a file, or those of the system, which are
/// read when the first connection needs them.
#[derive(Debug)]
pub struct Trust {
    min_version: MinVersion,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Trust {
    /// Trusts the certificate authorities of the system.
    pub fn system(min_version: MinVersion) -> Self {
        Self { min_version, config: OnceLock::new() }
    }

    /// Trusts the certificates in a PEM file, and those that they have signed. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or contains no usable certificate.
    pub fn file(path: &Path, min_version: MinVersion) -> Result<Self, TlsError> {
        let config = config(verifier::listed_in(path)?, min_version);
        Ok(Self { min_version, config: OnceLock::from(config) })
    }

    /// Starts TLS on a connection to `host`.
    ///
    /// # Errors
    /// When no certificate authorities are known, or the handshake fails.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let config = self.config().await?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, stream).await
    }

    async fn config(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let verifier = spawn_blocking(verifier::system).await?.map_err(io::Error::other)?;
        Ok(self.config.get_or_init(|| config(verifier, self.min_version)).clone())
    }
}

fn config(verifier: Arc<dyn ServerCertVerifier>, min_version: MinVersion) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(min_version.and_newer())
        .expect("the provider knows both versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Arc::new(config)
}
