//! Requests by route, method and status, and how long they took.

use std::{sync::OnceLock, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::{OTHER, labelled::Labelled};

const METHODS: [&str; 5] = ["POST", "GET", "HEAD", "OPTIONS", OTHER];
/// Every status a request can be answered with.
const STATUSES: [(u16, &str); 15] = [
    (200, "200"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (409, "409"),
    (413, "413"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (431, "431"),
    (500, "500"),
    (503, "503"),
    (0, OTHER),
];
/// The buckets a request may find used up. Known from the start, so that the first increase is one.
const POLICIES: [&str; 2] = ["user", "address"];
/// Upper bounds of the buckets, in seconds; no request takes longer than 9.
const DURATION_BUCKETS: [f64; 14] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 9.0];

type Labels<const N: usize> = [(&'static str, &'static str); N];
type PerMethod<T> = [T; METHODS.len()];
type PerStatus<T> = [T; STATUSES.len()];

/// The counters, each made when it is first needed and then found by its place.
#[derive(Debug)]
pub(crate) struct Requests {
    routes: Routes,
    counted: Family<Labels<3>, Counter>,
    counters: Box<[PerMethod<PerStatus<OnceLock<Counter>>>]>,
    timed: Family<Labels<2>, Histogram, fn() -> Histogram>,
    durations: Box<[PerMethod<OnceLock<Histogram>>]>,
    over_limit: Labelled,
}

impl Requests {
    pub(super) fn registered(registry: &mut Registry, paths: Vec<String>) -> Self {
        let routes = Routes::new(paths);
        let counted = Family::<Labels<3>, Counter>::default();
        registry.register("http_requests", "Requests answered", counted.clone());
        let timed = Family::<Labels<2>, Histogram, fn() -> Histogram>::new_with_constructor(|| {
            Histogram::new(DURATION_BUCKETS)
        });
        registry.register(
            "http_request_duration_seconds",
            "Time from a request's headers to its answer",
            timed.clone(),
        );
        let over_limit = Labelled::registered(
            registry,
            "http_requests_over_limit",
            "Requests answered with 429, by whose bucket was used up",
            "policy",
        );
        for policy in POLICIES {
            over_limit.of(policy);
        }
        let counters = routes.each(|| [const { [const { OnceLock::new() }; _] }; _]);
        let durations = routes.each(|| [const { OnceLock::new() }; _]);
        Self { routes, counted, counters, timed, durations, over_limit }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, path: &str, method: &str, status: u16, took: Duration) {
        let (route, method) = (self.routes.place(path), method_place(method));
        let status = place(&STATUSES, |(known, _)| *known == status);
        let labels = [("route", self.routes.0[route]), ("method", METHODS[method])];
        let counter = self.counters[route][method][status].get_or_init(|| {
            let [route, method] = labels;
            self.counted.get_or_create_owned(&[route, method, ("status", STATUSES[status].1)])
        });
        counter.inc();
        self.durations[route][method]
            .get_or_init(|| self.timed.get_or_create_owned(&labels))
            .observe(took.as_secs_f64());
    }

    /// It was one too many.
    pub(crate) fn over_limit(&self, policy: &'static str) {
        self.over_limit.of(policy).inc();
    }
}

/// The paths that are told apart, as the router has them. Whatever else is asked for shares a label, the
/// last, so that guessed paths don't fill the memory of the monitoring.
#[derive(Debug)]
struct Routes(Box<[&'static str]>);

impl Routes {
    /// For as long as the process runs, as labels want it.
    fn new(paths: Vec<String>) -> Self {
        let paths = paths.into_iter().map(|path| -> &'static str { path.leak() });
        Self(paths.chain([OTHER]).collect())
    }

    fn each<T>(&self, made: impl Fn() -> T) -> Box<[T]> {
        self.0.iter().map(|_| made()).collect()
    }

    fn place(&self, path: &str) -> usize {
        place(&self.0, |template| {
            let mut asked = path.split('/');
            let fits = template.split('/').all(|part| {
                asked.next().is_some_and(|it| {
                    if part.starts_with('{') { !it.is_empty() } else { it == part }
                })
            });
            fits && asked.next().is_none()
        })
    }
}

fn method_place(method: &str) -> usize {
    place(&METHODS, |known| *known == method)
}

/// Where it is among the known ones, of which the last stands for all others.
fn place<T>(known: &[T], is_it: impl Fn(&T) -> bool) -> usize {
    known.iter().position(is_it).unwrap_or(known.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fall_under_their_route_or_none() {
        let paths = ["/docs", "/docs/{file}", "/holds/{id}", "/holds/{id}/settle"];
        let routes = Routes::new(paths.map(str::to_owned).to_vec());
        let template = |path: &str| routes.0[routes.place(path)];
        assert_eq!(template("/docs"), "/docs");
        assert_eq!(template("/docs/page.js"), "/docs/{file}");
        assert_eq!(template("/holds/7"), "/holds/{id}");
        assert_eq!(template("/holds/7/settle"), "/holds/{id}/settle");
        for path in [
            "",
            "/holds/",
            "/holds//settle",
            "/holds/7/a",
            "/",
            "/docs/",
            "/docs/a/b",
            "/doc",
            "/metrics",
        ] {
            assert_eq!(template(path), OTHER);
        }
        assert_eq!(METHODS[method_place("BREW")], OTHER);
    }
}
