//! Certificates made for a test.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate and its key.
pub(super) struct Identity {
    pub(super) certificate: Certificate,
    pub(super) key: KeyPair,
}

impl Identity {
    /// An authority, which has signed itself.
    pub(super) fn authority() -> Self {
        Self::self_signed(IsCa::Ca(BasicConstraints::Unconstrained))
    }

    pub(super) fn self_signed(is_ca: IsCa) -> Self {
        Self::self_signed_with(|params| params.is_ca = is_ca)
    }

    /// An authority that has expired.
    pub(super) fn expired_authority() -> Self {
        Self::self_signed_with(|params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            expire(params);
        })
    }

    fn self_signed_with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut params);
        Self { certificate: params.self_signed(&key).unwrap(), key }
    }

    /// A certificate for servers and clients that this authority has signed.
    pub(super) fn sign(&self) -> Self {
        self.sign_with(|_| {})
    }

    /// An authority that this one has signed.
    pub(super) fn sign_authority(&self) -> Self {
        self.sign_with(|params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, "between");
        })
    }

    pub(super) fn sign_expired(&self) -> Self {
        self.sign_with(expire)
    }

    pub(super) fn sign_for_servers(&self) -> Self {
        self.sign_with(|params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    fn sign_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut params);
        Self { certificate: params.signed_by(&key, &self.certificate, &self.key).unwrap(), key }
    }

    pub(super) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

fn expire(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
}
