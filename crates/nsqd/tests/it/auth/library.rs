//! Our own client, which sends AUTH by itself.

use std::convert::Infallible;

use nsq_client::{Config, Consumer, Message, Producer};
use tokio::{sync::mpsc::unbounded_channel, time::timeout};

use super::{
    nsqd_asking,
    server::{ANYTHING, AuthServer},
};
use crate::support::PATIENCE;

#[tokio::test]
async fn the_client_library_publishes_and_consumes_with_a_secret() {
    let auth = AuthServer::answering(ANYTHING);
    let nsqd = nsqd_asking(&[&auth]);
    let address = nsqd.tcp.to_string();
    let config = Config { auth_secret: "s3cret".into(), ..Config::default() };
    let (sender, mut bodies) = unbounded_channel();
    let consumer = Consumer::builder("t", "c")
        .config(config.clone())
        .handler(move |message: Message| {
            sender.send(message.body().to_vec()).unwrap();
            async { Ok::<_, Infallible>(()) }
        })
        .build()
        .unwrap();
    consumer.connect_to_nsqd(&address).await.unwrap();
    let producer = Producer::new(&address, config).unwrap();
    producer.publish("t", b"hello").await.unwrap();
    assert_eq!(timeout(PATIENCE, bodies.recv()).await.unwrap().unwrap(), b"hello");
    for _ in ["consumer", "producer"] {
        assert!(auth.asked().target.contains("secret=s3cret"));
    }
    consumer.stop().await;
    producer.close(PATIENCE).await;
}

#[tokio::test]
async fn the_client_library_is_told_that_its_secret_is_refused() {
    let auth = AuthServer::answering(r#"{"ttl":1}"#);
    let nsqd = nsqd_asking(&[&auth]);
    let config = Config { auth_secret: "s3cret".into(), ..Config::default() };
    let producer = Producer::new(&nsqd.tcp.to_string(), config).unwrap();
    let error = producer.publish("t", b"hello").await.unwrap_err();
    assert!(format!("{error:?}").contains("AUTH no authorizations found"), "{error:?}");
}
