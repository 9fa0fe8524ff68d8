//! The layer between frames and socket: none, TLS or snappy.

mod stream;
mod tls;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use self::stream::Coat;
pub(crate) use self::stream::Stream;
use crate::failure::Failure;

/// The layer between frames and socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// None.
    Plain,
    /// TLS 1.3, or 1.2 if the server has no newer one.
    Tls,
    /// Snappy's framing format.
    Snappy,
}

/// The address of a server and the layer to speak with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    /// The address for protocol V2.
    pub(crate) address: SocketAddr,
    /// The layer.
    pub(crate) layer: Layer,
}

/// Addresses mean plain connections.
impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self { address, layer: Layer::Plain }
    }
}

/// The files of a server that speaks TLS.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The certificate, in PEM.
    pub(crate) cert: PathBuf,
    /// The private key, in PEM.
    pub(crate) key: PathBuf,
}

impl Identity {
    /// Makes a certificate for this machine in `folder`.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn create(folder: &Path) -> Result<Self, Failure> {
        let (cert, key) = tls::certificate()?;
        let identity = Self { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
        fs::write(&identity.cert, cert).map_err(Failure::io("write a certificate"))?;
        fs::write(&identity.key, key).map_err(Failure::io("write a private key"))?;
        Ok(identity)
    }
}

impl Layer {
    /// Returns the layer of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Plain, Self::Tls, Self::Snappy].into_iter().find(|layer| layer.name() == name)
    }

    /// Returns the name of the layer.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "tls",
            Self::Snappy => "snappy",
        }
    }

    /// Returns the feature that a client asks for and a server confirms, as JSON; `None` for a plain connection.
    pub(crate) fn feature(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Tls => Some(r#""tls_v1":true"#),
            Self::Snappy => Some(r#""snappy":true"#),
        }
    }

    /// Returns the client's side of the layer.
    ///
    /// # Errors
    /// Returns an error if TLS cannot be used.
    pub(crate) fn client(self) -> Result<Coat, Failure> {
        Ok(match self {
            Self::Plain => Coat::Plain,
            Self::Tls => Coat::tls(tls::client()?),
            Self::Snappy => Coat::snappy(),
        })
    }

    /// Returns the server's side of the layer; `identity` is for TLS.
    ///
    /// # Errors
    /// Returns an error if TLS cannot be used.
    pub(crate) fn server(self, identity: Option<&Identity>) -> Result<Coat, Failure> {
        Ok(match (self, identity) {
            (Self::Plain, _) => Coat::Plain,
            (Self::Snappy, _) => Coat::snappy(),
            (Self::Tls, Some(identity)) => Coat::tls(tls::server(identity)?),
            (Self::Tls, None) => return Err(Failure::Usage("TLS needs a certificate".into())),
        })
    }
}
