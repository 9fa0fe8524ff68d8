//! The checks of client certificates.

use std::sync::Arc;

use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{Problem, TlsError, roots, system_roots, version_1};

/// Accepts any certificate whose key the client has.
pub(super) fn any(provider: Arc<CryptoProvider>) -> Arc<dyn ClientCertVerifier> {
    Arc::new(Any(provider))
}

/// Accepts certificates that one of `authorities` has signed, and `authorities` themselves.
pub(super) fn signed_by(
    authorities: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
    let roots = Arc::new(roots(&authorities));
    let by_signature = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        // It fails without a root only.
        .map_err(|_| Problem::NoCertificate)?;
    Ok(Arc::new(Listed { by_signature, authorities }))
}

/// Accepts certificates that an authority known to the operating system has signed.
pub(super) fn signed_by_system_roots(
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(system_roots()?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
        // There are more than a hundred, and a client need not be told their names.
        .clear_root_hint_subjects()
        .build();
    verifier.map_err(|error| TlsError::SystemRoots(error.to_string()))
}

/// Accepts certificates signed by one of the listed authorities, and the listed certificates themselves.
///
/// The latter is for certificates that signed themselves: most are authorities, and an authority is otherwise not
/// accepted as a client.
#[derive(Debug)]
struct Listed {
    by_signature: Arc<dyn ClientCertVerifier>,
    authorities: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for Listed {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.by_signature.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.by_signature.verify_client_cert(end_entity, intermediates, now) {
            // Certificates that have expired fail with an error of their own.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.authorities.contains(end_entity) =>
            {
                Ok(ClientCertVerified::assertion())
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

/// Accepts any certificate whose key the client has.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ClientCertVerifier for Any {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        match crypto::verify_tls12_signature(message, certificate, signature, known) {
            Err(error @ Error::InvalidCertificate(CertificateError::Other(_))) => {
                version_1::verify_tls12_signature(message, certificate, signature, known)
                    .unwrap_or(Err(error))
            }
            verified => verified,
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        match crypto::verify_tls13_signature(message, certificate, signature, known) {
            Err(error @ Error::InvalidCertificate(CertificateError::Other(_))) => {
                version_1::verify_tls13_signature(message, certificate, signature, known)
                    .unwrap_or(Err(error))
            }
            verified => verified,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
