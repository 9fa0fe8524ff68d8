//! The facts of a TLS connection that `/stats` shows and authorization asks for.

use tokio_rustls::rustls::{CipherSuite, ProtocolVersion, ServerConnection};

use super::common_name::common_name;
use crate::topic::client::TlsInfo;

/// Describes a connection after its handshake, in NSQ's words.
pub(super) fn tls_info(connection: &ServerConnection) -> TlsInfo {
    let protocol = connection.alpn_protocol().unwrap_or_default();
    let certificate = connection.peer_certificates().and_then(|chain| chain.first());
    TlsInfo {
        version: connection.protocol_version().map(version_name).unwrap_or_default(),
        cipher_suite: connection
            .negotiated_cipher_suite()
            .map(|suite| suite_name(suite.suite()))
            .unwrap_or_default(),
        protocol: String::from_utf8_lossy(protocol).into_owned(),
        common_name: certificate.and_then(|der| common_name(der)).unwrap_or_default(),
    }
}

fn version_name(version: ProtocolVersion) -> String {
    match version {
        ProtocolVersion::TLSv1_2 => "TLS1.2".to_owned(),
        ProtocolVersion::TLSv1_3 => "TLS1.3".to_owned(),
        other => format!("Unknown {}", u16::from(other)),
    }
}

/// NSQ knows the names of few of the suites that are spoken here.
fn suite_name(suite: CipherSuite) -> String {
    match suite {
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => {
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".to_owned()
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => {
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()
        }
        other => format!("Unknown {}", u16::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_without_a_name_in_nsq_are_shown_by_number() {
        assert_eq!(suite_name(CipherSuite::TLS13_AES_128_GCM_SHA256), "Unknown 4865");
        let known = CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;
        assert_eq!(suite_name(known), "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
        assert_eq!(version_name(ProtocolVersion::TLSv1_3), "TLS1.3");
    }
}
