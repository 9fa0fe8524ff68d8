//! TLS: whether connections use it, the trusted authorities, and the client's certificate.

#[cfg(feature = "tls")]
mod connector;

use std::path::{Path, PathBuf};

#[cfg(feature = "tls")]
pub(crate) use self::connector::TlsStream;

/// Whether connections are encrypted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Connections are not encrypted.
    Off,
    /// Connections are encrypted if nsqd offers TLS. If not, they continue in the clear with a warning, but
    /// `auth_secret` is not sent.
    Preferred,
    /// Connections are encrypted, or fail.
    Required,
}

/// A version of TLS.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// The configuration of TLS.
///
/// [`TlsConfig::default`] trusts the certificate authorities of the system, presents no client certificate, and accepts
/// TLS 1.2 and 1.3. Files are in PEM format and are read once, when a consumer or producer is built.
///
/// ```
/// use nsq_client::{Config, TlsConfig, TlsMode};
///
/// let config = Config {
///     tls_config: TlsConfig::default()
///         .root_ca_file("/etc/nsq/ca.pem")
///         .client_certificate("/etc/nsq/client.pem", "/etc/nsq/client-key.pem"),
///     ..Config::default()
/// };
/// assert_eq!(config.tls_mode(), TlsMode::Required);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsConfig {
    root_ca_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    insecure_skip_verify: bool,
    min_version: Option<TlsVersion>,
    #[cfg(feature = "tls")]
    connector: connector::Cache,
}

impl TlsConfig {
    /// Trusts the certificates in this file instead of those of the system. A server may also present one of these
    /// certificates itself, for example a self-signed one.
    pub fn root_ca_file(self, path: impl Into<PathBuf>) -> Self {
        Self { root_ca_file: Some(path.into()), ..self.changed() }
    }

    /// Presents the certificate chain in one file to nsqd, with the private key in the other.
    pub fn client_certificate(
        self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        Self {
            certificate_file: Some(certificate.into()),
            key_file: Some(key.into()),
            ..self.changed()
        }
    }

    /// Sets whether to accept any certificate of the server. Traffic is then encrypted, but not protected from an
    /// attacker between client and server.
    pub fn insecure_skip_verify(self, skip: bool) -> Self {
        Self { insecure_skip_verify: skip, ..self.changed() }
    }

    /// Sets the oldest version of TLS to accept.
    pub fn min_version(self, version: TlsVersion) -> Self {
        Self { min_version: Some(version), ..self.changed() }
    }

    /// Discards what was built from the configuration, because it is about to change.
    fn changed(self) -> Self {
        #[cfg(feature = "tls")]
        return Self { connector: connector::Cache::default(), ..self };
        #[cfg(not(feature = "tls"))]
        self
    }
}

/// Why a TLS configuration is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// A file cannot be read or has the wrong content.
    #[error("{path}: {reason}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A client certificate without its private key, or the reverse.
    #[error("{given} is set without {missing}")]
    Lone {
        /// The option that is set.
        given: &'static str,
        /// The option that is missing.
        missing: &'static str,
    },
    /// The client certificate cannot be used with the private key.
    #[error("client certificate: {0}")]
    ClientCertificate(String),
    /// The certificate authorities of the system cannot be found.
    #[error("no certificate authorities found in the system: {0}")]
    SystemRoots(String),
    /// The version is unknown, or too old to be safe.
    #[error("TLS version {0:?} is not supported, only tls1.2 and tls1.3 are")]
    Version(String),
}

/// Setters for single options by name. Files are checked as soon as possible.
impl TlsConfig {
    pub(crate) fn set_root_ca_file(&mut self, path: &str) -> Result<(), TlsConfigError> {
        *self = self.clone().root_ca_file(path);
        #[cfg(feature = "tls")]
        connector::certificates(Path::new(path))?;
        Ok(())
    }

    pub(crate) fn set_certificate_file(&mut self, path: &str) -> Result<(), TlsConfigError> {
        *self = Self { certificate_file: Some(path.into()), ..self.clone().changed() };
        self.check_client_certificate()
    }

    pub(crate) fn set_key_file(&mut self, path: &str) -> Result<(), TlsConfigError> {
        *self = Self { key_file: Some(path.into()), ..self.clone().changed() };
        self.check_client_certificate()
    }

    pub(crate) fn set_insecure_skip_verify(&mut self, skip: bool) {
        *self = self.clone().insecure_skip_verify(skip);
    }

    pub(crate) fn set_min_version(&mut self, version: &str) -> Result<(), TlsConfigError> {
        let version = match version {
            "tls1.2" => TlsVersion::Tls12,
            "tls1.3" => TlsVersion::Tls13,
            _ => return Err(TlsConfigError::Version(version.to_owned())),
        };
        *self = self.clone().min_version(version);
        Ok(())
    }

    fn check_client_certificate(&self) -> Result<(), TlsConfigError> {
        #[cfg(feature = "tls")]
        if self.certificate_file.is_some() && self.key_file.is_some() {
            connector::client_identity(self)?;
        }
        Ok(())
    }

    /// Returns the files of the client certificate and its key, if there is one.
    fn client_files(&self) -> Result<Option<(&Path, &Path)>, TlsConfigError> {
        match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(TlsConfigError::Lone { given: "tls_cert", missing: "tls_key" }),
            (None, Some(_)) => Err(TlsConfigError::Lone { given: "tls_key", missing: "tls_cert" }),
        }
    }

    /// Checks that no option is missing and, if TLS is `wanted`, that the files can be used.
    pub(crate) fn check(&self, wanted: bool) -> Result<(), TlsConfigError> {
        self.client_files()?;
        #[cfg(feature = "tls")]
        if wanted {
            connector::client_config(self)?;
        }
        #[cfg(not(feature = "tls"))]
        let _ = wanted;
        Ok(())
    }
}
