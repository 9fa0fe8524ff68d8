//! The certificate authorities that certificates are verified against.

use rustls_native_certs::load_native_certs;
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
    let found = load_native_certs();
    let roots = roots(&found.certs);
    if roots.is_empty() {
        let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::SystemRoots(reasons.join(", ")));
    }
    Ok(roots)
}
