use reqwest::header::HOST;

use super::*;

const ISSUER: &str = "https://accounts.google.com";

struct Waiting {
    url: String,
    answer: tokio::task::JoinHandle<Answer>,
    over: oneshot::Sender<()>,
    http: reqwest::Client,
}

impl Waiting {
    async fn start() -> Self {
        let redirect = Redirect::listen().await.unwrap();
        let url = redirect.uri();
        let (over, ended) = oneshot::channel::<()>();
        let answer = tokio::spawn(async move {
            let over = async {
                let _sent = ended.await;
            };
            redirect.answer("state", ISSUER, over).await
        });
        Self { url, answer, over, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    async fn get(&self, query: &str) -> u16 {
        self.http.get(format!("{}?{query}", self.url)).send().await.unwrap().status().as_u16()
    }

    async fn answered(self) -> Result<String, GoogleError> {
        self.answer.await.unwrap().map(|code| code.0.to_string())
    }
}

#[tokio::test]
async fn only_the_answer_to_this_sign_in_counts() {
    let waiting = Waiting::start().await;
    for query in ["", "code=evil", "code=evil&state=other", "code=evil&state=state&state=state", "error=access_denied"]
    {
        assert_eq!(waiting.get(query).await, 403, "{query}");
    }
    let right = format!("{}?code=c&state=state", waiting.url);
    let other_host = waiting.http.get(&right).header(HOST, "localhost").send().await.unwrap();
    assert_eq!(other_host.status(), 403);
    for method in [reqwest::Method::POST, reqwest::Method::HEAD] {
        assert_eq!(waiting.http.request(method, &right).send().await.unwrap().status(), 403);
    }
    assert_eq!(waiting.http.get(format!("{}favicon.ico", waiting.url)).send().await.unwrap().status(), 404);
    let page = waiting.http.get(format!("{right}&iss={ISSUER}")).send().await.unwrap();
    assert_eq!(
        (page.status().as_u16(), &page.headers()["cache-control"]),
        (200, &HeaderValue::from_static("no-store"))
    );
    assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    assert_eq!(waiting.answered().await, Ok("c".to_owned()));
}

#[tokio::test]
async fn what_google_says_instead_of_a_code_is_told_apart() {
    let cases = [
        ("error=access_denied", GoogleError::Denied),
        ("error=invalid_scope", GoogleError::Refused("invalid_scope".to_owned())),
        ("error=a%20b%3Cc", GoogleError::Refused("abc".to_owned())),
        ("code=c&iss=https%3A%2F%2Fexample.com", GoogleError::StateMismatch),
        ("code=c&error=access_denied", GoogleError::BadAnswer("REDIRECT")),
        ("code=", GoogleError::BadAnswer("REDIRECT")),
        ("x=y", GoogleError::BadAnswer("REDIRECT")),
    ];
    for (query, expected) in cases {
        let waiting = Waiting::start().await;
        assert_eq!(waiting.get(&format!("state=state&{query}")).await, 200, "{query}");
        assert_eq!(waiting.answered().await, Err(expected), "{query}");
    }
}

#[tokio::test]
async fn a_wait_ends_and_says_whether_somebody_else_had_answered() {
    for (query, expected) in [(None, GoogleError::Expired), (Some("state=other&code=c"), GoogleError::StateMismatch)] {
        let waiting = Waiting::start().await;
        if let Some(query) = query {
            assert_eq!(waiting.get(query).await, 403);
        }
        waiting.over.send(()).unwrap();
        assert_eq!(waiting.answer.await.unwrap().map(|_| ()), Err(expected));
    }
}
