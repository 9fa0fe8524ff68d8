//! The TLS that the options ask for.

use nsq_daemon::{
    log::Logger,
    tls::{ClientAuth, ServerTls, Settings, TlsError},
};

use crate::options::{TlsMinVersion, TlsOptions, TlsRequired};

/// Why the TLS that was asked for is not possible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsStartError {
    /// The files cannot be used.
    #[error("failed to build TLS config - {0}")]
    Files(#[from] TlsError),
    /// Clients must use TLS, but there is no certificate.
    #[error("cannot require TLS client connections without TLS key and cert")]
    NoCertificate,
}

/// Loads the certificate, if there is one. Any policy for the certificates of clients requires TLS, too.
pub(crate) fn load(
    options: &mut TlsOptions,
    logger: &Logger,
) -> Result<Option<ServerTls>, TlsStartError> {
    if !options.client_auth_policy.is_empty() && options.required == TlsRequired::No {
        options.required = TlsRequired::Yes;
    }
    if options.cert.is_empty() && options.key.is_empty() {
        return match options.required {
            TlsRequired::No => Ok(None),
            TlsRequired::ExceptHttp | TlsRequired::Yes => Err(TlsStartError::NoCertificate),
        };
    }
    let tls = ServerTls::load(settings(options))?;
    if matches!(options.min_version, TlsMinVersion::Tls10 | TlsMinVersion::Tls11) {
        logger.info(format_args!("TLS: the oldest version spoken is 1.2"));
    }
    Ok(Some(tls))
}

fn settings(options: &TlsOptions) -> Settings {
    let root_ca_file = Some(&options.root_ca_file).filter(|path| !path.is_empty());
    Settings {
        certificate_file: options.cert.clone().into(),
        key_file: options.key.clone().into(),
        client_auth: match options.client_auth_policy.as_str() {
            "require" => ClientAuth::AnyCertificate,
            "require-verify" => ClientAuth::VerifiedCertificate,
            _ => ClientAuth::NotRequested,
        },
        root_ca_file: root_ca_file.map(Into::into),
        min_version: options.min_version.spoken(),
    }
}
