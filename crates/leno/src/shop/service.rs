//! What the services that speak HTTP and gRPC answer.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use leno_http::grpc::{Call, Code, Status};
use leno_http::server::Reply;
use leno_http::{Body, RequestHead, ResponseHead};
use leno_model::seam::Random;
use leno_runtime::SystemRandom;
use serde_json::{Value, json};

use super::call::CallError;
use super::{Service, Shop, stock};

/// The method of reviews: a product there, a sentence back, both as `google.protobuf.StringValue`.
pub const REVIEWS_PATH: &str = "/shop.Reviews/Latest";
/// What everybody asks for.
const PRODUCT: &str = "teapot";
/// How long shipping takes: at least, and how much more at most, in milliseconds.
const SHIPPING_MS: (u64, u64) = (150, 150);

/// Answers the requests of one service.
pub struct Handler {
    pub service: Service,
    pub shop: Rc<Shop>,
}

// === impl Handler ===

impl leno_http::Handler for Handler {
    async fn handle(&self, _head: RequestHead, _body: Body, reply: Reply) {
        let answer = match self.service {
            Service::Front => front(&self.shop).await,
            Service::Catalog => Ok(json!({"products": [PRODUCT, "saucer", "spoon"]})),
            Service::Cart => cart(&self.shop).await,
            Service::Payments => payments(&self.shop).await,
            _ => shipping().await,
        };
        let (status, value) = match answer {
            Ok(value) => (200, value),
            Err((status, reason)) => (status, json!({"error": reason})),
        };
        let head = ResponseHead::new(status).with("content-type", "application/json");
        // An error means that the caller is gone.
        let _ = reply.respond(head, Bytes::from(value.to_string())).await;
    }
}

/// An answer, or the status and the reason why there is none.
type Answer = Result<Value, (u16, String)>;

/// The page: everything that it shows must be there.
async fn front(shop: &Shop) -> Answer {
    let way = shop.ways.borrow().out().map_err(|error| failed("front", &error))?;
    let (catalog, reviews, cart) = tokio::join!(
        way.get("catalog.shop", "/products", true),
        way.grpc("reviews.shop", REVIEWS_PATH, PRODUCT),
        way.get("cart.shop", "/cart", false),
    );
    let catalog = catalog.and_then(|body| parsed(&body)).map_err(|error| failed("catalog", &error))?;
    let review = reviews.map_err(|error| failed("reviews", &error))?;
    let cart = cart.and_then(|body| parsed(&body)).map_err(|error| failed("cart", &error))?;
    Ok(json!({"products": catalog["products"], "review": review, "cart": cart}))
}

/// The cart needs the stock; a payment that is not possible now is possible later.
async fn cart(shop: &Shop) -> Answer {
    let (way, stock) = {
        let ways = shop.ways.borrow();
        (ways.out().map_err(|error| failed("cart", &error))?, ways.stock)
    };
    let (count, payment) = tokio::join!(stock::count(stock, PRODUCT), way.get("payments.shop", "/methods", false));
    let count = count.map_err(|error| failed("stock", &error))?;
    let payment = if payment.is_ok() { "now" } else { "later" };
    Ok(json!({"version": shop.version, "stock": count, "payment": payment}))
}

/// Refuses as often as it was told to.
async fn payments(shop: &Shop) -> Answer {
    if shop.fails_now() {
        return Err((503, "payments has a bad moment".to_owned()));
    }
    let way = shop.ways.borrow().out().map_err(|error| failed("payments", &error))?;
    let shipping = way.get("shipping.shop", "/price", false).await.and_then(|body| parsed(&body));
    let shipping = shipping.map_err(|error| failed("shipping", &error))?;
    Ok(json!({"methods": ["card", "invoice"], "shipping": shipping["price"]}))
}

async fn shipping() -> Answer {
    let (least, more) = SHIPPING_MS;
    tokio::time::sleep(Duration::from_millis(least + SystemRandom.below(more))).await;
    Ok(json!({"price": 4}))
}

/// The latest review of a product.
pub async fn reviews(_call: Call, product: String) -> Result<String, Status> {
    if product.is_empty() {
        return Err(Status::new(Code::InvalidArgument, "name a product"));
    }
    Ok(format!("The {product} does not drip."))
}

fn failed(who: &str, error: &CallError) -> (u16, String) {
    (502, format!("{who}: {error}"))
}

fn parsed(body: &[u8]) -> Result<Value, CallError> {
    serde_json::from_slice(body).map_err(|_| CallError::Answer)
}
