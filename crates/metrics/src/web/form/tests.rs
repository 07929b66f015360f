//! Parameters from the path and from the body.

use http::Request;

use super::*;

async fn read(method: Method, address: &str, posted: &str) -> Form {
    let request = Request::builder()
        .method(method)
        .uri(address)
        .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
        .body(())
        .unwrap();
    Form::read(&request.into_parts().0, body::full(posted.to_owned())).await.unwrap()
}

#[tokio::test]
async fn a_body_goes_before_the_address() {
    let form = read(Method::POST, "/?query=b&x=1&match[]=c", "query=a%2Bb+c&match%5B%5D=d").await;
    assert_eq!(form.first("query"), "a+b c");
    assert_eq!(form.in_address("query"), "b");
    assert_eq!(form.all("match[]"), ["d", "c"]);
    assert_eq!(form.first("none"), "");
    let form = read(Method::GET, "/?query=b", "query=a").await;
    assert_eq!(form.first("query"), "b");
}

#[tokio::test]
async fn what_cannot_be_read_is_left_out_and_told() {
    for (address, wrong) in [
        ("/?a=%zz&b=1", "error parsing form values: invalid URL escape \"%zz\""),
        ("/?a=%2&b=1", "error parsing form values: invalid URL escape \"%2\""),
        ("/?a;c&b=1", "error parsing form values: invalid semicolon separator in query"),
    ] {
        let form = read(Method::GET, address, "").await;
        assert_eq!(form.first("b"), "1", "{address}");
        assert_eq!(form.checked().unwrap_err(), wrong);
    }
}

#[tokio::test]
async fn an_endless_form_is_refused() {
    let endless = body::stream(futures::stream::repeat_with(|| Ok(bytes::Bytes::from(vec![b'a'; 1 << 16]))));
    let request = Request::post("/").header("content-type", "application/x-www-form-urlencoded").body(()).unwrap();
    let error = Form::read(&request.into_parts().0, endless).await.unwrap_err();
    assert_eq!(error, "request body is larger than 10485760 bytes");
}
