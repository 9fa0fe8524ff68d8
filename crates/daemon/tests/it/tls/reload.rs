//! Certificates that are replaced while the server runs.

use std::time::Duration;

use nsq_daemon::tls::{ClientAuth, Settings};
use tokio::time::timeout;

use super::{BOTH, Client, Files, Identity, TestServer};
use crate::harness::PATIENCE;

/// The time between two looks at the files.
const LOOK: Duration = Duration::from_millis(1);

#[tokio::test]
async fn the_next_connection_gets_the_certificate_that_was_read_again() {
    let authority = Identity::authority();
    let [old, new] = [authority.sign(), authority.sign()];
    let files = Files::of(&old);
    let server = TestServer::start(files.settings.clone()).await;
    let client = Client::trusting([&authority], BOTH);
    let mut early = server.connect(&client).await.unwrap();
    assert_eq!(&early.server_certificate(), old.certificate.der());
    files.replace(&new);
    assert!(server.tls.reload(&server.logger));
    let late = server.connect(&client).await.unwrap();
    assert_eq!(&late.server_certificate(), new.certificate.der());
    // Connections go on with the certificate they began with.
    early.ping().await.unwrap();
    let path = files.settings.certificate_file.display();
    let line = format!("INFO: TLS: now using the certificate in {path}");
    assert!(server.log.texts().contains(&line), "{:#?}", server.log.texts());
    server.stop().await;
}

#[tokio::test]
async fn a_bad_pair_is_reported_and_the_last_good_one_stays() {
    let authority = Identity::authority();
    let [old, new] = [authority.sign(), authority.sign()];
    let files = Files::of(&old);
    let server = TestServer::start(files.settings.clone()).await;
    let client = Client::trusting([&authority], BOTH);
    files.put("server.key", &new.key.serialize_pem());
    assert!(!server.tls.reload(&server.logger));
    let tls = server.connect(&client).await.unwrap();
    assert_eq!(&tls.server_certificate(), old.certificate.der());
    let expected = format!(
        "ERROR: TLS: keeping the certificate in use - {}: private key does not match the certificate in {}",
        files.settings.key_file.display(),
        files.settings.certificate_file.display()
    );
    assert!(server.log.texts().contains(&expected), "{:#?}", server.log.texts());
    files.put("server.pem", &new.certificate.pem());
    assert!(server.tls.reload(&server.logger));
    let tls = server.connect(&client).await.unwrap();
    assert_eq!(&tls.server_certificate(), new.certificate.der());
    server.stop().await;
}

#[tokio::test]
async fn files_that_change_are_read_again_without_being_told() {
    let authority = Identity::authority();
    let clients = Identity::authority();
    let files = Files::of(&authority.sign());
    let root_ca_file = Some(files.put("ca.pem", &authority.certificate.pem()));
    let client_auth = ClientAuth::VerifiedCertificate;
    let settings = Settings { root_ca_file, client_auth, ..files.settings.clone() };
    let server = TestServer::start(settings).await;
    let (tls, logger) = (server.tls.clone(), server.logger.clone());
    let watch = tokio::spawn(async move { tls.watch(LOOK, &logger).await });
    let own = clients.sign();
    let client = Client::trusting([&authority], BOTH).presenting(&own, &own);
    assert!(server.connect(&client).await.is_err());
    let new = authority.sign();
    files.replace(&new);
    files.put("ca.pem", &clients.certificate.pem());
    let replaced = async {
        loop {
            match server.connect(&client).await {
                Ok(tls) if tls.server_certificate() == *new.certificate.der() => break,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    timeout(PATIENCE, replaced).await.expect("the new files are used in time");
    watch.abort();
    server.stop().await;
}
