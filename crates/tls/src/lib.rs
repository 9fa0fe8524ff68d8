//! The servers that NSQ's clients and daemons trust over TLS.
//!
//! nsq-client connects to nsqds and nsqd connects to auth servers. Both trust the authorities of the operating system, or
//! the certificates in a file. The check of a certificate is security code, and is here so that it exists once.

use std::sync::Arc;

use rustls_native_certs::load_native_certs;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        VerifierBuilderError, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

/// The operating system has no certificate authority that can be used.
#[derive(Debug, thiserror::Error)]
#[error("no certificate authorities found in the system: {reasons}")]
pub struct NoSystemRoots {
    /// The problems with the places where they are looked for.
    pub reasons: String,
}

/// Returns the certificate authorities of the operating system, at least one. Administrators add the authorities of their
/// own network there, which a list built into the program would not have. Blocks.
///
/// # Errors
/// Returns [`NoSystemRoots`] if there is none.
pub fn system_roots() -> Result<RootCertStore, NoSystemRoots> {
    let found = load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(NoSystemRoots { reasons: reasons.join(", ") });
    }
    Ok(roots)
}

/// Returns a verifier that accepts certificates signed by one of `roots`, and the certificates in `listed` themselves.
///
/// The latter is for certificates that signed themselves: most are authorities, and an authority is otherwise not
/// accepted as a server. They too have to be for the name of the server, and must not have expired.
///
/// # Errors
/// Returns an error if there are no roots.
pub fn listed_servers(
    roots: RootCertStore,
    listed: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, VerifierBuilderError> {
    let by_signature =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
    Ok(Arc::new(Listed { by_signature, listed }))
}

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
