//! A browser as far as the admin pages notice it: it keeps their cookies, follows nothing by itself, and says where
//! its forms come from.

use std::{collections::BTreeMap, net::SocketAddr};

use reqwest::{Method, RequestBuilder, redirect::Policy};

use super::{Reply, Server};

/// A browser with the pages open.
#[derive(Debug, Clone)]
pub(crate) struct Browser {
    http: reqwest::Client,
    origin: String,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    /// One that knows nothing yet.
    pub(crate) fn of(server: &Server) -> Self {
        let line = server.wait_for_log("admin=127.0.0.1:");
        let (_, address) = line.rsplit_once("admin=").expect("just looked for");
        Self::at(address.trim().parse().expect("a socket address"))
    }

    fn at(address: SocketAddr) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build();
        let http = http.expect("a client can be made");
        Self { http, origin: format!("http://{address}"), cookies: BTreeMap::new() }
    }

    /// A request with the cookies, for a test to complete.
    pub(crate) fn request(&self, method: Method, page: &str) -> RequestBuilder {
        let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        self.http
            .request(method, format!("{}{page}", self.origin))
            .header("cookie", cookies)
            .header("accept-language", "en")
    }

    /// Opens a page.
    pub(crate) async fn open(&self, page: &str) -> Reply {
        Reply::to(self.request(Method::GET, page)).await
    }

    /// Sends a form from one of the pages, and keeps the cookies that come back.
    pub(crate) async fn send(&mut self, page: &str, fields: &[(&str, &str)]) -> Reply {
        let request = self.request(Method::POST, page).header("sec-fetch-site", "same-origin");
        let reply = Reply::to(filled(request, fields)).await;
        self.keep(&reply);
        reply
    }

    /// Logs in with a token.
    pub(crate) async fn log_in(&mut self, token: &str) -> Reply {
        self.send("/login", &[("token", token)]).await
    }

    /// The cookies, by their names.
    pub(crate) fn cookies(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.cookies
    }

    fn keep(&mut self, reply: &Reply) {
        for cookie in reply.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().expect("a visible header");
            let pair = cookie.split(';').next().expect("a name and a value");
            let (name, value) = pair.split_once('=').expect("a name and a value");
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

/// A request with the fields of a form.
pub(crate) fn filled(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    request.header("content-type", "application/x-www-form-urlencoded").body(form.finish())
}
