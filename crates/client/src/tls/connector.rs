//! The TLS implementation; the only module that knows rustls.

use std::{
    fmt, fs, io,
    path::Path,
    sync::{Arc, OnceLock},
};

use rustls_native_certs::load_native_certs;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore,
        SignatureScheme, SupportedProtocolVersion, WantsVerifier,
        client::{
            WantsClientCert, WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
            verify_server_name,
        },
        crypto::{self, CryptoProvider},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
        server::ParsedCertificate,
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
        return Ok(builder.with_root_certificates(system_roots()?));
    };
    let unusable = |reason: String| TlsConfigError::File { path: path.clone(), reason };
    let certificates = certificates(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|error| unusable(error.to_string()))?;
    }
    let by_signature = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    let verifier = Arc::new(Listed { by_signature, certificates });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

/// Returns the certificate authorities of the operating system. Administrators add the authorities of their own network
/// there, which a list built into the program would not have.
fn system_roots() -> Result<RootCertStore, TlsConfigError> {
    let found = load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsConfigError::SystemRoots(reasons.join(", ")));
    }
    Ok(roots)
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

/// Accepts certificates signed by one of the listed certificates, and the listed certificates themselves.
///
/// The latter is for self-signed certificates: most are certificate authorities, and an authority is otherwise not
/// accepted as a server.
#[derive(Debug)]
struct Listed {
    by_signature: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Listed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.by_signature.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // Certificates that have expired or are for another name fail with errors of their own.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.certificates.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
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
