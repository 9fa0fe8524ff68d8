//! TLS of the load and of the null server.

use std::{
    fs,
    sync::{Arc, OnceLock},
};

use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error, ServerConfig,
    ServerConnection, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use super::Identity;
use crate::failure::Failure;

/// Returns a new certificate for this machine and its key, in PEM.
pub(super) fn certificate() -> Result<(String, String), Failure> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(wrong)?;
    Ok((made.cert.pem(), made.key_pair.serialize_pem()))
}

pub(super) fn client() -> Result<Connection, Failure> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.expect("the provider knows the default versions");
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone));
        Arc::new(builder.with_no_client_auth())
    });
    let name = ServerName::try_from("localhost").map_err(wrong)?;
    Ok(ClientConnection::new(Arc::clone(config), name).map_err(wrong)?.into())
}

pub(super) fn server(identity: &Identity) -> Result<Connection, Failure> {
    static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    if CONFIG.get().is_none() {
        // Of several threads that come here at once, one makes the configuration that stays.
        let _ = CONFIG.set(Arc::new(server_config(identity)?));
    }
    let config = CONFIG.get().ok_or_else(|| Failure::Wrong("no TLS configuration".into()))?;
    Ok(ServerConnection::new(Arc::clone(config)).map_err(wrong)?.into())
}

fn server_config(identity: &Identity) -> Result<ServerConfig, Failure> {
    let read = |path| fs::read(path).map_err(Failure::io("read a certificate or key"));
    let chain = CertificateDer::pem_slice_iter(&read(&identity.cert)?)
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&identity.key)?).map_err(wrong)?;
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(wrong)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::ring::default_provider())
}

fn wrong(error: impl std::fmt::Display) -> Failure {
    Failure::Wrong(format!("TLS: {error}"))
}

/// Accepts any server: the bench has started it itself.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = provider().signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, &known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = provider().signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, &known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
