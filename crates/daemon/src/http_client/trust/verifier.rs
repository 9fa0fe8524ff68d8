//! The checks of servers' certificates.

use std::{path::Path, sync::Arc};

use nsq_tls::listed_servers;
use tokio_rustls::rustls::{
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, ring},
};

use crate::tls::{Problem, TlsError, certificates, roots, system_roots};

/// Accepts certificates signed by an authority that the operating system knows. Blocks.
pub(super) fn system() -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let roots = Arc::new(system_roots()?);
    match WebPkiServerVerifier::builder_with_provider(roots, provider()).build() {
        Ok(verifier) => Ok(verifier),
        Err(error) => Err(TlsError::SystemRoots(error.to_string())),
    }
}

/// Accepts the certificates in a file, and those that they have signed. Blocks.
pub(super) fn listed_in(path: &Path) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let listed = certificates(path)?;
    // It fails without a root only.
    listed_servers(roots(&listed), listed, provider())
        .map_err(|_| TlsError::Content { path: path.to_owned(), problem: Problem::NoCertificate })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
