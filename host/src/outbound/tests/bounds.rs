//! Time, bytes and places: each has an end.

use super::*;

fn hurried(server: &Server) -> OutboundGrant {
    OutboundGrant { timeout: Duration::from_millis(50), ..grant("127.0.0.1", server.port) }
}

#[tokio::test]
async fn a_slow_head_and_a_slow_body_are_given_up() {
    let server = Server::start().await;
    let outbound = nameless();
    for path in ["/head-never", "/body-never"] {
        assert_eq!(outbound.once(&hurried(&server), get(server.url(path))).await, Err(Error::TimedOut), "{path}");
    }
    assert_eq!(server.requests(), 2);
    until(|| server.open() == 0).await;
    assert_eq!((outbound.under_way(), outbound.bytes_kept()), (0, 0));
}

#[tokio::test]
async fn the_shorter_time_counts() {
    let server = Server::start().await;
    let outbound = nameless();
    let patient = grant("127.0.0.1", server.port);
    let started = std::time::Instant::now();
    for (grant, timeout) in [(&patient, Duration::from_millis(50)), (&hurried(&server), Duration::from_secs(20))] {
        let call = Call { timeout, ..get(server.url("/head-never")) };
        assert_eq!(outbound.once(grant, call).await, Err(Error::TimedOut));
    }
    assert!(started.elapsed() < patient.timeout, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_body_may_be_as_large_as_granted_and_no_larger() {
    let server = Server::start().await;
    let (outbound, grant) = (nameless(), grant("127.0.0.1", server.port));
    for path in ["/sized/1024", "/chunked/1024"] {
        assert_eq!(outbound.once(&grant, get(server.url(path))).await.unwrap().body.len(), 1024, "{path}");
    }
    let too_large = Err(Error::TooLarge(Part::Body));
    for path in ["/sized/1025", "/sized/10000000", "/chunked/1025", "/endless"] {
        assert_eq!(outbound.once(&grant, get(server.url(path))).await, too_large, "{path}");
    }
    assert_eq!(outbound.bytes_kept(), 0);
}

#[tokio::test]
async fn whom_the_head_is_enough_no_body_undoes_it() {
    let server = Server::start().await;
    let outbound = nameless();
    let patient = grant("127.0.0.1", server.port);
    let tell = async |path: &str, timeout| {
        let grants = [OutboundGrant { timeout, ..patient.clone() }];
        outbound.tell(OrgId::from_number(7), &grants, &mut Spent::default(), get(server.url(path))).await
    };
    // The body that never comes takes all of its time.
    for (path, timeout) in [
        ("/sized/10000000", patient.timeout),
        ("/chunked/1025", patient.timeout),
        ("/endless", patient.timeout),
        ("/body-never", Duration::from_secs(2)),
    ] {
        let answer = tell(path, timeout).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
    }
    assert_eq!(tell("/head-never", Duration::from_millis(50)).await, Err(Error::TimedOut));
    until(|| server.open() == 0).await;
    assert_eq!((outbound.under_way(), outbound.bytes_kept()), (0, 0));
    for _ in 0..2 {
        assert_eq!(tell("/sized/1024", patient.timeout).await.map(|answer| answer.status), Ok(200));
    }
    assert_eq!(server.open(), 1, "who came to its end serves again");
}

#[tokio::test]
async fn the_length_that_head_announces_is_no_body() {
    let server = Server::start().await;
    let call = Call { method: "HEAD".into(), ..get(server.url("/sized/100000")) };
    let answer = nameless().once(&grant("127.0.0.1", server.port), call).await.unwrap();
    assert_eq!((answer.field("content-length"), answer.body.len()), (Some("100000"), 0));
}

#[tokio::test]
async fn a_large_head_is_refused() {
    let server = Server::start().await;
    let allowed = nameless().once(&grant("127.0.0.1", server.port), get(server.url("/head/30000"))).await;
    assert_eq!(allowed.unwrap().field("x-large").map(str::len), Some(30000));
    for path in ["/head/33000", "/head/1000000", "/many-fields"] {
        let answer = nameless().once(&grant("127.0.0.1", server.port), get(server.url(path))).await;
        assert_eq!(answer, Err(Error::TooLarge(Part::Head)), "{path}");
    }
}

#[tokio::test]
async fn who_stops_waiting_frees_place_and_connection() {
    let server = Server::start().await;
    let (outbound, grant) = (nameless(), grant("127.0.0.1", server.port));
    let waiting = {
        let (outbound, call) = (outbound.clone(), get(server.url("/head-never")));
        tokio::spawn(async move { outbound.once(&grant, call).await })
    };
    until(|| server.requests() == 1).await;
    assert_eq!((outbound.under_way(), server.open()), (1, 1));
    waiting.abort();
    until(|| outbound.under_way() == 0 && server.open() == 0).await;
}

#[tokio::test]
async fn one_too_many_is_told_at_once() {
    let server = Server::start().await;
    let (outbound, grant) = (nameless(), grant("127.0.0.1", server.port));
    let busy = Err(Unreached::Busy.into());
    let all = outbound.inner.under_way.clone().try_acquire_many_owned(MOST_UNDER_WAY as u32).unwrap();
    assert_eq!(outbound.once(&grant, get(server.url("/echo"))).await, busy);
    drop(all);
    let most = outbound.inner.bytes.clone().try_acquire_many_owned(MOST_BYTES as u32 - 100).unwrap();
    let large = Call { body: vec![0; 101], ..get(server.url("/echo")) };
    assert_eq!(outbound.once(&grant, large).await, busy);
    assert_eq!(server.requests(), 0);
    assert_eq!(outbound.once(&grant, get(server.url("/sized/101"))).await, busy);
    drop(most);
    assert_eq!(outbound.once(&grant, get(server.url("/sized/101"))).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_answer_that_is_none_is_told() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let words = [
        &b"nonsense\r\n\r\n"[..],
        b"",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
    ];
    let server = tokio::spawn(async move {
        for answer in words {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await;
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        }
    });
    for answer in words {
        let outcome = nameless().once(&grant("127.0.0.1", port), get(format!("http://127.0.0.1:{port}/"))).await;
        assert_eq!(outcome, Err(Unreached::Broken.into()), "{:?}", String::from_utf8_lossy(answer));
    }
    server.await.unwrap();
}
