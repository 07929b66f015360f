//! Steps in a user namespace of their own: who they are, and that what they leave is as without.

use std::{fs, os::unix::fs::chown, sync::Arc};

use build::{
    client::Given,
    request::{NetworkMode, Output},
};

use crate::place::{Place, as_root};

const BASE: &str = "FROM test.madang.dev/busybox:1\n";

#[test]
fn a_step_is_root_inside_and_nobody_outside() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[("a", "1"), ("sub/b", "2")]);
        let stage = "FROM test.madang.dev/busybox:1 AS stage\nRUN echo x > /one && chown 7:8 /one\nRUN echo y > /two\n";
        for (instructions, wanted) in [
            (
                "RUN cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '",
                " 0 2147483648 2147483647\n 0 2147483648 2147483647\n",
            ),
            ("RUN id -u && stat -c %u:%g / /bin/busybox /etc/hosts /dev/shm", "0\n0:0\n0:0\n0:0\n0:0\n"),
            ("RUN echo x > /f && chown 2147483000:70000 /f && stat -c %u:%g /f", "2147483000:70000\n"),
            (
                "USER web\nRUN touch /tmp/x && stat -c %u:%g /tmp/x && ! touch /x 2>/dev/null && echo refused",
                "1000:50\nrefused\n",
            ),
            (
                "RUN --mount=target=/m cat /m/sub/b && stat -c %u /m/a && ! touch /m/x 2>/dev/null && echo refused",
                "20\nrefused\n",
            ),
            ("RUN --mount=target=/m,rw echo new > /m/a && cat /m/a && stat -c %u /m/a", "new\n0\n"),
            ("RUN --mount=from=stage,target=/m stat -c %u:%g /m/one /m/two", "7:8\n0:0\n"),
            (
                "RUN --mount=from=stage,target=/m,rw chown 9:9 /m/two && echo z > /m/one && stat -c %u:%g /m/one /m/two",
                "7:8\n9:9\n",
            ),
            (
                "RUN --mount=type=cache,target=/c,uid=5,gid=6 stat -c %u:%g /c && touch /c/x && stat -c %u /c/x",
                "5:6\n0\n",
            ),
            ("RUN --mount=type=tmpfs,target=/m,size=65536 touch /m/x && stat -c %u:%a /m", "0:1777\n"),
            (
                "RUN --mount=type=secret,id=token,uid=3 cat /run/secrets/token && stat -c :%u:%a /run/secrets/token",
                "s3cret:3:400\n",
            ),
            (
                "USER 5\nRUN --mount=type=secret,id=token ! cat /run/secrets/token 2>/dev/null && echo refused",
                "refused\n",
            ),
            ("RUN hostname other 2>/dev/null || echo refused", "refused\n"),
            ("RUN --network=none ls /sys/class/net", "lo\n"),
        ] {
            let mut request = place.request(&format!("{stage}{BASE}{instructions}\n"), &context);
            request.options.no_cache = true;
            let mut given = Given::default();
            given.secrets.insert("token".to_owned(), b"s3cret".to_vec());
            request.client = Arc::new(given);
            let (built, told) = place.build(request).await;
            assert!(built.is_ok(), "{instructions}: {}{}", built.unwrap_err().show(), told.output);
            assert_eq!(told.output, wanted, "{instructions}");
        }
    });
}

#[test]
fn what_may_do_everything_is_the_machines_root() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[]);
        let dockerfile = format!(
            "{BASE}RUN --security=insecure cut -c 1-60 /proc/self/uid_map | tr -s ' ' && mknod /null c 1 3\n\
             RUN tr -s ' ' < /proc/self/uid_map && stat -c %t:%T /null\n"
        );
        let mut request = place.request(&dockerfile, &context);
        request.options.allow_insecure = true;
        let (built, told) = place.build(request).await;
        assert!(built.is_ok(), "{}", built.unwrap_err().show());
        assert_eq!(told.output, " 0 0 4294967295\n 0 2147483648 2147483647\n1:3\n");
    });
}

#[test]
fn a_step_in_the_machines_network_has_users_of_its_own_too() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[]);
        let mut request =
            place.request(&format!("{BASE}RUN tr -s ' ' < /proc/self/uid_map && cat /proc/net/dev\n"), &context);
        request.options.network = NetworkMode::Host;
        let (built, told) = place.build(request).await;
        assert!(built.is_ok(), "{}", built.unwrap_err().show());
        assert!(told.output.starts_with(" 0 2147483648 2147483647\n"), "{}", told.output);
        for line in fs::read_to_string("/proc/net/dev").unwrap().lines().skip(2) {
            let name = line.split(':').next().unwrap();
            assert!(told.output.contains(name), "{name}: {}", told.output);
        }
    });
}

/// What steps do to files that layers can tell apart.
const WORK: &str = "RUN echo new > /new && chown 33:44 /new && chmod 4751 /new && ln /new /again && ln -s new /link\n\
     RUN chown 2000000000:70000 /new && touch /bin/sh-not && mkfifo /pipe && mkdir -p /d/e && echo 1 > /d/e/f\n\
     RUN rm /link && rm -r /d && mkdir /d && chown 5:6 /d && chmod 2770 /d && echo more >> /etc/group\n\
     COPY --chown=12:13 a /d/\n\
     USER web\n\
     RUN touch /tmp/mine && cat /d/a 2>/dev/null || echo closed > /tmp/closed\n";

#[test]
fn layers_are_the_same_with_users_and_without() {
    as_root(async {
        let mut images = Vec::new();
        for place in [Place::new().await, Place::without_users().await] {
            let context = place.context("context", &[("a", "1")]);
            chown(context.join("a"), Some(77), Some(77)).unwrap();
            place.busybox().await;
            let mut request = place.request(&format!("{BASE}{WORK}"), &context);
            request.outputs = vec![Output::Image { names: Vec::new(), push: false, compression: Default::default() }];
            request.options.arguments.insert("SOURCE_DATE_EPOCH".into(), "1000000000".into());
            let (built, _) = place.build(request).await;
            let built = built.unwrap_or_else(|error| panic!("{}", error.show()));
            let found = place.files(place.request(&format!("{BASE}{WORK}"), &place.path("context"))).await.unwrap();
            let image = place.store.get(built.image.unwrap().as_str()).unwrap();
            // The lowest layer has the times of this test's files.
            let layers = image.config.rootfs().diff_ids()[1..].to_vec();
            images.push((found, layers));
        }
        let (without, with) = (images.pop().unwrap(), images.pop().unwrap());
        assert_eq!(with.0, without.0);
        assert_eq!(with.1, without.1);
        assert!(with.0.iter().any(|line| line == "new 751 2000000000:70000 new"), "{:?}", with.0);
        assert_eq!(with.1.len(), 5);
    });
}
