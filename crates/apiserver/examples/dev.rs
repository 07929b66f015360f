//! scratch
use apiserver::{ApiServer, Config, User};
fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let rt = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let dir = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
        std::fs::create_dir_all(dir.join("store")).unwrap();
        let t0 = std::time::Instant::now();
        let store = store::Store::embedded(&dir.join("store"), Default::default()).await.unwrap();
        let t1 = std::time::Instant::now();
        let task = task::Task::root("dev");
        let server = ApiServer::start(task.clone(), Config::in_dir(&dir), store).await.unwrap();
        eprintln!("store {:?} start {:?}", t1 - t0, t1.elapsed());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:18080").await.unwrap();
        let tls = std::env::args().nth(2).map(|d| {
            let r = |n: &str| std::fs::read(format!("{d}/{n}")).unwrap();
            serve::tls::server_config(&r("crt.pem"), &r("key.pem"), Some(&r("ca.pem"))).unwrap()
        });
        let plain = tls.is_none();
        serve::http::serve(task, listener, tls, Default::default(), move |mut req| {
            if plain && !req.headers().contains_key("x-auth") {
                req.extensions_mut().insert(User::new("admin", &["system:masters"]));
            }
            let server = server.clone();
            async move { server.handle(req).await }
        })
        .await;
    });
}
