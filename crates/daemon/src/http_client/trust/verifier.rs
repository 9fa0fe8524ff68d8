//! The checks of servers' certificates.

use std::{path::Path, sync::Arc};

use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        VerifierBuilderError, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use crate::tls::{Problem, TlsError, certificates, roots, system_roots};

/// Accepts certificates signed by an authority that the operating system knows. Blocks.
pub(super) fn system() -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    match by_signature(system_roots()?) {
        Ok(verifier) => Ok(verifier),
        Err(error) => Err(TlsError::SystemRoots(error.to_string())),
    }
}

/// Accepts the certificates in a file, and those that they have signed. Blocks.
pub(super) fn listed_in(path: &Path) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let listed = certificates(path)?;
    // It fails without a root only.
    let by_signature = by_signature(roots(&listed)).map_err(|_| TlsError::Content {
        path: path.to_owned(),
        problem: Problem::NoCertificate,
    })?;
    Ok(Arc::new(Listed { by_signature, listed }))
}

fn by_signature(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, VerifierBuilderError> {
    let provider = Arc::new(ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()
}

/// Accepts certificates signed by one of the listed ones, and the listed ones themselves.
///
/// The latter is for certificates that signed themselves: most are authorities, and an authority is otherwise not
/// accepted as a server.
#[derive(Debug)]
struct Listed {
    by_signature: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Listed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.by_signature.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // Certificates that have expired or are for another name fail with errors of their own.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.listed.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_signature.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_signature.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_signature.supported_verify_schemes()
    }
}
