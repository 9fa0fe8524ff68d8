//! TLS: whether connections use it, what is trusted, and how the client shows who it is.

#[cfg(feature = "tls")]
mod connector;

use std::path::{Path, PathBuf};

#[cfg(feature = "tls")]
pub(crate) use self::connector::TlsStream;

/// Whether connections are encrypted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// They are not.
    Off,
    /// They are when nsqd offers it. When it does not, they go on in the clear, with a warning, except that
    /// `auth_secret` is never sent then.
    Preferred,
    /// They are, or they fail.
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

/// How TLS is done: [`TlsConfig::default`] trusts what the system trusts, shows no certificate of its own, and takes
/// TLS 1.2 and 1.3.
///
/// Files are in PEM format. They are read once, when a consumer or producer is built.
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
    /// Trusts the certificates in this file, and not those that the system trusts. A server may also show one of
    /// these certificates itself, as one that has signed itself does.
    pub fn root_ca_file(self, path: impl Into<PathBuf>) -> Self {
        Self { root_ca_file: Some(path.into()), ..self.changed() }
    }

    /// Shows the certificate chain in one file to nsqd, and proves with the private key in the other that it is the
    /// client's own.
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

    /// Whether to talk to any server, whatever certificate it shows. Encrypts, but whoever can get between client and
    /// server can read and change everything.
    pub fn insecure_skip_verify(self, skip: bool) -> Self {
        Self { insecure_skip_verify: skip, ..self.changed() }
    }

    /// The oldest version of TLS to accept.
    pub fn min_version(self, version: TlsVersion) -> Self {
        Self { min_version: Some(version), ..self.changed() }
    }

    /// The same configuration, to be built anew.
    fn changed(self) -> Self {
        #[cfg(feature = "tls")]
        return Self { connector: connector::Cache::default(), ..self };
        #[cfg(not(feature = "tls"))]
        self
    }
}

/// Why a TLS configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// A file cannot be read, or does not hold what it should.
    #[error("{path}: {reason}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A client certificate without its private key, or the reverse.
    #[error("{given} is set without {missing}")]
    Lone {
        /// The option that is set.
        given: &'static str,
        /// The option that is not.
        missing: &'static str,
    },
    /// The client certificate cannot be used with the private key.
    #[error("client certificate: {0}")]
    ClientCertificate(String),
    /// The system's trusted certificates cannot be found.
    #[error("no certificates that the system trusts: {0}")]
    SystemRoots(String),
    /// There is no such version, or it is too old to be safe.
    #[error("TLS version {0:?} is not supported, only tls1.2 and tls1.3 are")]
    Version(String),
}

/// Setting one thing at a time, by name; files are checked as soon as they can be.
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

    /// The files of the client certificate and its key, if there is one.
    fn client_files(&self) -> Result<Option<(&Path, &Path)>, TlsConfigError> {
        match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(TlsConfigError::Lone { given: "tls_cert", missing: "tls_key" }),
            (None, Some(_)) => Err(TlsConfigError::Lone { given: "tls_key", missing: "tls_cert" }),
        }
    }

    /// Checks that nothing is missing, and, when TLS is `wanted`, that it could be used.
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
