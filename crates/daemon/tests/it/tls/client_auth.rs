//! Certificates of clients, under each policy.

use nsq_daemon::tls::{ClientAuth, Settings};
use rcgen::{BasicConstraints, IsCa};
use tokio_rustls::rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::{TLS12, TLS13},
};

use super::{BOTH, Client, Files, Identity, TestServer, files::pem};

/// A server's authority, and a server with a policy for its clients.
struct Setup {
    authority: Identity,
    files: Files,
}

impl Setup {
    fn new() -> Self {
        let authority = Identity::authority();
        Self { files: Files::of(&authority.sign()), authority }
    }

    async fn start(&self, client_auth: ClientAuth, trusted: Option<&Identity>) -> TestServer {
        let pem = |identity: &Identity| identity.certificate.pem();
        let root_ca_file = trusted.map(|identity| self.files.put("ca.pem", &pem(identity)));
        let settings = self.files.settings.clone();
        TestServer::start(Settings { client_auth, root_ca_file, ..settings }).await
    }

    fn client(&self) -> Client {
        Client::trusting([&self.authority], BOTH)
    }

    fn presenting(&self, identity: &Identity) -> Client {
        self.client().presenting(identity, identity)
    }
}

#[tokio::test]
async fn without_a_policy_no_certificate_is_asked_for() {
    let setup = Setup::new();
    let server = setup.start(ClientAuth::NotRequested, None).await;
    server.connect(&setup.client()).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn any_certificate_will_do_but_the_client_must_have_its_key() {
    let setup = Setup::new();
    let server = setup.start(ClientAuth::AnyCertificate, None).await;
    assert!(server.connect(&setup.client()).await.is_err());
    let (stranger, thief) = (Identity::authority().sign(), Identity::self_signed(IsCa::NoCa));
    for version in [&TLS12, &TLS13] {
        let client = || Client::trusting([&setup.authority], &[version]);
        server.connect(&client().presenting(&stranger, &stranger)).await.unwrap();
        server.connect(&client().presenting(&thief, &thief)).await.unwrap();
        assert!(server.connect(&client().presenting(&stranger, &thief)).await.is_err());
    }
    let expired = setup.authority.sign_expired();
    server.connect(&setup.presenting(&expired)).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_verified_certificate_comes_from_the_authorities_in_the_file() {
    let setup = Setup::new();
    let clients = Identity::authority();
    let server = setup.start(ClientAuth::VerifiedCertificate, Some(&clients)).await;
    for version in [&TLS12, &TLS13] {
        let client = || Client::trusting([&setup.authority], &[version]);
        let known = clients.sign();
        server.connect(&client().presenting(&known, &known)).await.unwrap();
        assert!(server.connect(&client()).await.is_err());
        for stranger in [
            setup.authority.sign(),
            Identity::self_signed(IsCa::NoCa),
            clients.sign_expired(),
            clients.sign_for_servers(),
        ] {
            assert!(server.connect(&client().presenting(&stranger, &stranger)).await.is_err());
        }
        let thief = clients.sign();
        assert!(server.connect(&client().presenting(&known, &thief)).await.is_err());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_that_signed_itself_is_verified_when_it_is_the_one_trusted() {
    let setup = Setup::new();
    for is_ca in [IsCa::Ca(BasicConstraints::Unconstrained), IsCa::NoCa] {
        let own = Identity::self_signed(is_ca.clone());
        let server = setup.start(ClientAuth::VerifiedCertificate, Some(&own)).await;
        server.connect(&setup.presenting(&own)).await.unwrap();
        let other = Identity::self_signed(is_ca);
        assert!(server.connect(&setup.presenting(&other)).await.is_err());
        server.stop().await;
    }
    let expired = Identity::expired_authority();
    let server = setup.start(ClientAuth::VerifiedCertificate, Some(&expired)).await;
    assert!(server.connect(&setup.presenting(&expired)).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn without_a_file_the_authorities_of_the_system_are_asked() {
    let setup = Setup::new();
    let settings =
        Settings { client_auth: ClientAuth::VerifiedCertificate, ..setup.files.settings.clone() };
    // A machine may have none at all.
    if nsq_daemon::tls::ServerTls::load(settings).is_ok() {
        let server = setup.start(ClientAuth::VerifiedCertificate, None).await;
        let stranger = setup.authority.sign();
        assert!(server.connect(&setup.presenting(&stranger)).await.is_err());
        assert!(server.connect(&setup.client()).await.is_err());
        server.stop().await;
    }
}

#[tokio::test]
async fn a_certificate_of_version_1_will_do_where_any_does() {
    let setup = Setup::new();
    let certificate = CertificateDer::from_pem_file(pem("ec-v1.crt")).unwrap();
    let own_key = || PrivateKeyDer::from_pem_file(pem("ec-sec1.key")).unwrap();
    let any = setup.start(ClientAuth::AnyCertificate, None).await;
    for version in [&TLS12, &TLS13] {
        let client = || Client::trusting([&setup.authority], &[version]);
        any.connect(&client().presenting_der(&certificate, own_key())).await.unwrap();
        let stolen = client().presenting_der(&certificate, setup.authority.key_der());
        assert!(any.connect(&stolen).await.is_err());
    }
    any.stop().await;
    let settings = Settings {
        client_auth: ClientAuth::VerifiedCertificate,
        root_ca_file: Some(pem("ec-v1.crt")),
        ..setup.files.settings.clone()
    };
    let verified = TestServer::start(settings).await;
    let client = setup.client().presenting_der(&certificate, own_key());
    assert!(verified.connect(&client).await.is_err());
    verified.stop().await;
}
