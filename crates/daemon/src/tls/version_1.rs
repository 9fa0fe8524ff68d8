//! Signatures made with the keys of certificates of version 1.
//!
//! rustls reads certificates of version 3 only. A certificate that is not verified itself has to yield no more than its
//! key, which stands where it does in version 3.

use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerMisbehaved,
    client::danger::HandshakeSignatureValid,
    crypto::{self, WebPkiSupportedAlgorithms},
    pki_types::SubjectPublicKeyInfoDer,
};

use super::der::Element;

/// The tag of the version, which only certificates of a later version have.
const VERSION: u8 = 0xa0;
/// The fields before the key: serial number, signature algorithm, issuer, validity, subject.
const FIELDS_BEFORE_KEY: usize = 5;

/// Verifies a signature of TLS 1.2. Returns `None` if the certificate is not of version 1.
pub(super) fn verify_tls12_signature(
    message: &[u8],
    certificate: &[u8],
    signature: &DigitallySignedStruct,
    known: &WebPkiSupportedAlgorithms,
) -> Option<Result<HandshakeSignatureValid, Error>> {
    let key = Key::of(certificate)?;
    let scheme = known.mapping.iter().find(|(scheme, _)| *scheme == signature.scheme);
    let Some((_, algorithms)) = scheme else {
        return Some(Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into()));
    };
    let mut fitting =
        algorithms.iter().filter(|algorithm| *algorithm.public_key_alg_id() == *key.algorithm);
    let is_signed = fitting.any(|algorithm| {
        algorithm.verify_signature(key.bits, message, signature.signature()).is_ok()
    });
    Some(if is_signed {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    })
}

/// Verifies a signature of TLS 1.3. Returns `None` if the certificate is not of version 1.
pub(super) fn verify_tls13_signature(
    message: &[u8],
    certificate: &[u8],
    signature: &DigitallySignedStruct,
    known: &WebPkiSupportedAlgorithms,
) -> Option<Result<HandshakeSignatureValid, Error>> {
    let info = SubjectPublicKeyInfoDer::from(Key::of(certificate)?.info);
    Some(crypto::verify_tls13_signature_with_raw_key(message, &info, signature, known))
}

/// The public key in a certificate.
struct Key<'a> {
    /// The key with its algorithm, as a whole element.
    info: &'a [u8],
    algorithm: &'a [u8],
    bits: &'a [u8],
}

impl<'a> Key<'a> {
    /// Returns the key of a certificate of version 1.
    fn of(certificate: &'a [u8]) -> Option<Self> {
        let mut fields = Element::first_of(Element::first_of(certificate)?.content)?.content;
        if *fields.first()? == VERSION {
            return None;
        }
        for _ in 0..FIELDS_BEFORE_KEY {
            fields = Element::first_of(fields)?.rest;
        }
        let info = Element::first_of(fields)?;
        let algorithm = Element::first_of(info.content)?;
        // The bits of a key are whole bytes: none of the last byte are unused.
        let (0, bits) = Element::first_of(algorithm.rest)?.content.split_first()? else {
            return None;
        };
        Some(Self { info: info.whole, algorithm: algorithm.content, bits })
    }
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

    use super::*;

    fn certificate() -> CertificateDer<'static> {
        let pem = include_bytes!("../../tests/it/tls/pem/ec-v1.crt");
        CertificateDer::from_pem_slice(pem).unwrap()
    }

    #[test]
    fn the_key_of_a_certificate_of_version_1_is_found() {
        let certificate = certificate();
        let key = Key::of(&certificate).unwrap();
        let algorithm = tokio_rustls::rustls::pki_types::alg_id::ECDSA_P256;
        assert_eq!((key.algorithm, key.bits.len()), (&*algorithm, 65));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        assert!(Key::of(made.cert.der()).is_none(), "this is of version 3");
    }

    #[test]
    fn a_torn_or_damaged_certificate_does_no_harm() {
        let whole = certificate();
        for length in 0..whole.len() {
            assert!(Key::of(&whole[..length]).is_none());
        }
        for at in 0..whole.len() {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 0x7f;
            // Any result will do.
            let _ = Key::of(&damaged);
        }
    }
}
