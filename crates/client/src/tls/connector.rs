//! The TLS implementation; the only module that knows rustls.

use std::{
    fmt, fs, io,
    path::Path,
    sync::{Arc, OnceLock},
};

use nsq_tls::NoSystemRoots;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
        SupportedProtocolVersion, WantsVerifier,
        client::{
            WantsClientCert,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{self, CryptoProvider},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
        version::{TLS12, TLS13},
    },
};

use super::{TlsConfig, TlsConfigError, TlsVersion};

/// A TLS session on TCP.
pub(crate) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// The rustls configuration built from a [`TlsConfig`], shared by its copies.
#[derive(Clone, Default)]
pub(super) struct Cache(OnceLock<Arc<ClientConfig>>);

impl PartialEq for Cache {
    /// Always equal: configurations are compared by their options.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "built" } else { "not built" })
    }
}

impl TlsConfig {
    /// Starts TLS on `stream`. nsqd's certificate must be for the host in `address`.
    ///
    /// # Errors
    /// Returns an error if the handshake fails; its kind is `InvalidData` if one side does not accept the other.
    pub(crate) async fn connect(&self, address: &str, stream: TcpStream) -> io::Result<TlsStream> {
        let config = client_config(self).map_err(invalid)?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
        TlsConnector::from(config).connect(name, stream).await
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Returns the rustls configuration for `options`, built at the first call.
pub(super) fn client_config(options: &TlsConfig) -> Result<Arc<ClientConfig>, TlsConfigError> {
    if let Some(built) = options.connector.0.get() {
        return Ok(Arc::clone(built));
    }
    let built = Arc::new(build(options)?);
    Ok(Arc::clone(options.connector.0.get_or_init(|| built)))
}

fn build(options: &TlsConfig) -> Result<ClientConfig, TlsConfigError> {
    let builder = with_trust(builder(options.min_version), options)?;
    with_identity(builder, options)
}

fn builder(min_version: Option<TlsVersion>) -> ConfigBuilder<ClientConfig, WantsVerifier> {
    const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    let versions = match min_version {
        None | Some(TlsVersion::Tls12) => VERSIONS,
        Some(TlsVersion::Tls13) => &VERSIONS[..1],
    };
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("the provider knows both versions")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::ring::default_provider())
}

fn with_trust(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    options: &TlsConfig,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsConfigError> {
    if options.insecure_skip_verify {
        let verifier = Arc::new(Anyone(provider()));
        return Ok(builder.dangerous().with_custom_certificate_verifier(verifier));
    }
    let Some(path) = &options.root_ca_file else {
        let roots = nsq_tls::system_roots()
            .map_err(|NoSystemRoots { reasons }| TlsConfigError::SystemRoots(reasons))?;
        return Ok(builder.with_root_certificates(roots));
    };
    let unusable = |reason: String| TlsConfigError::File { path: path.clone(), reason };
    let certificates = certificates(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|error| unusable(error.to_string()))?;
    }
    let verifier = nsq_tls::listed_servers(roots, certificates, provider())
        .map_err(|error| unusable(error.to_string()))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

fn with_identity(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    options: &TlsConfig,
) -> Result<ClientConfig, TlsConfigError> {
    match client_identity(options)? {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| TlsConfigError::ClientCertificate(error.to_string())),
    }
}

/// Reads the client's certificate chain and private key, if configured.
pub(super) fn client_identity(
    options: &TlsConfig,
) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, TlsConfigError> {
    let Some((certificate_file, key_file)) = options.client_files()? else { return Ok(None) };
    let chain = certificates(certificate_file)?;
    let key = PrivateKeyDer::from_pem_slice(&read(key_file)?)
        .map_err(|error| unusable(key_file, format!("private key: {error}")))?;
    Ok(Some((chain, key)))
}

/// Reads the certificates in a file; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable(path, "no certificate in the file".to_owned()));
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsConfigError> {
    fs::read(path).map_err(|error| unusable(path, error.to_string()))
}

fn unusable(path: &Path, reason: String) -> TlsConfigError {
    TlsConfigError::File { path: path.to_owned(), reason }
}

/// Accepts any certificate whose key the server has.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

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
        let known = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
