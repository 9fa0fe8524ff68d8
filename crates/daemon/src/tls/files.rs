//! Certificates and keys in PEM files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tokio_rustls::rustls::{
    self, CertificateError, InconsistentKeys,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};

use super::{Problem, Settings, TlsError};

/// Reads the certificate chain and its private key.
pub(super) fn identity(
    settings: &Settings,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&settings.certificate_file)?;
    let key_file = &settings.key_file;
    let key = private_key(key_file)?;
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|error| content(key_file, Problem::Key(error)))?;
    let identity = CertifiedKey::new(chain, key);
    match check(&identity) {
        Ok(()) => Ok(identity),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
            certificate: settings.certificate_file.clone(),
            key: key_file.clone(),
        }),
        Err(error) => Err(content(&settings.certificate_file, Problem::Certificate(error))),
    }
}

/// Checks that the key is the one of the certificate.
fn check(identity: &CertifiedKey) -> Result<(), rustls::Error> {
    match identity.keys_match() {
        // Certificates of version 1, as simple scripts make them, are not understood. They hold their key all the same.
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
            if contains_key(identity) =>
        {
            Ok(())
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))) => {
            Err(InconsistentKeys::KeyMismatch.into())
        }
        checked => checked,
    }
}

fn contains_key(identity: &CertifiedKey) -> bool {
    let (Some(key), Ok(certificate)) = (identity.key.public_key(), identity.end_entity_cert())
    else {
        return false;
    };
    certificate.windows(key.len()).any(|window| window == &*key)
}

/// Reads the certificates in a file, at least one. Other things may stand beside them.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| content(path, Problem::Pem(error)))?;
    if certificates.is_empty() {
        return Err(content(path, Problem::NoCertificate));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let problem = match error {
            _ if is_encrypted(&text) => Problem::EncryptedKey,
            pem::Error::NoItemsFound => Problem::NoKey,
            error => Problem::Pem(error),
        };
        content(path, problem)
    })
}

/// Returns whether a key file says that its key is encrypted, as PKCS#8 or as the older form does.
fn is_encrypted(pem: &[u8]) -> bool {
    let says = |words: &[u8]| pem.windows(words.len()).any(|window| window == words);
    says(b"BEGIN ENCRYPTED PRIVATE KEY") || says(b"Proc-Type: 4,ENCRYPTED")
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Open { path: path.to_owned(), source })
}

fn content(path: &Path, problem: Problem) -> TlsError {
    TlsError::Content { path: PathBuf::from(path), problem }
}

/// The text of an I/O error as NSQ writes it: in lower case, and without the number.
pub(super) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
