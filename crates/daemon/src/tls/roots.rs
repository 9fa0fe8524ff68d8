//! The certificate authorities that certificates are verified against.

use nsq_tls::NoSystemRoots;
use tokio_rustls::rustls::{RootCertStore, pki_types::CertificateDer};

use super::TlsError;

/// The authorities among `certificates`; those that rustls cannot read are left out.
pub(crate) fn roots(certificates: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    roots
}

/// The authorities that the operating system trusts, at least one. Blocks.
pub(crate) fn system_roots() -> Result<RootCertStore, TlsError> {
    nsq_tls::system_roots().map_err(|NoSystemRoots { reasons }| TlsError::SystemRoots(reasons))
}
