//! The demo's shop: seven small services, each a process of this executable that knows nothing of the mesh but the
//! address of its proxy.
//!
//! ```text
//! visitor ─► front (HTTP/1) ─┬─► catalog (HTTP/2)
//!                            ├─► reviews (gRPC)
//!                            └─► cart (HTTP/1, v1 and v2) ─┬─► stock (TCP, a line there and a line back)
//!                                                          └─► payments (flaky) ─► shipping (slow)
//! ```
//!
//! A process says `listening ADDRESS` on standard output, takes [`Order`]s as lines on standard input and says `done N` to
//! each, N being how often it has answered 503; it ends when its input is closed, and is killed by the kernel when the
//! demo dies.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::rc::Rc;

use leno_http::grpc;
use leno_model::seam::Random;
use leno_runtime::serve::Serve;
use leno_runtime::{Drain, SystemRandom, task};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::net::unix::pipe::Receiver;

pub mod call;
mod service;
mod stock;

/// The first argument of a process that becomes another verb of leno, tied to the life of the demo.
pub const TIED: &str = "tied";
/// What a service says before the address where it listens.
pub const LISTENING: &str = "listening ";
/// What a service says when it has followed an order, before the number of its answers that were 503.
pub const DONE: &str = "done ";
/// The status of a process whose arguments make no sense.
const USAGE: u8 = 2;
/// How often payments answers 503 when nobody has told it to fail.
pub const FLAKY_PERCENT: u64 = 10;

/// A service of the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Asks the others and puts their answers together.
    Front,
    /// What there is.
    Catalog,
    /// What was chosen.
    Cart,
    /// What others say.
    Reviews,
    /// How many there are.
    Stock,
    /// Fails now and then.
    Payments,
    /// Takes its time.
    Shipping,
}

/// What a process is told on its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Where its proxy takes what it sends.
    Outbound(SocketAddr),
    /// Where its proxy has a port that leads to `stock`.
    Stock(SocketAddr),
    /// Answer so many of a hundred requests with 503.
    Fail(u64),
}

/// What the requests of a process share.
struct Shop {
    version: String,
    ways: RefCell<call::Ways>,
    fail_percent: Cell<u64>,
    /// Answers that were 503.
    refused: Cell<u64>,
}

/// Runs one service, or becomes another verb of leno; both end with the process that started this one.
pub fn run(rest: &[String]) -> ExitCode {
    // Held over an exec too. Nobody to tell when it cannot be set: the demo kills what it started anyway.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let ended = match rest {
        [tied, verb @ ..] if tied == TIED => Err(Command::new("/proc/self/exe").arg0("leno").args(verb).exec()),
        [name, version] => match Service::ALL.into_iter().find(|service| service.name() == name) {
            Some(service) => leno_runtime::threads::control(serve(service, version.clone())).flatten(),
            None => return ExitCode::from(USAGE),
        },
        _ => return ExitCode::from(USAGE),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leno: the shop: {error}");
            ExitCode::from(USAGE)
        }
    }
}

async fn serve(service: Service, version: String) -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let input = Receiver::from_owned_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    println!("{LISTENING}{}", listener.local_addr()?);
    let fail_percent = Cell::new(if service == Service::Payments { FLAKY_PERCENT } else { 0 });
    let shop = Rc::new(Shop { version, ways: RefCell::default(), fail_percent, refused: Cell::new(0) });
    let (drain, orders) = (Drain::new(), shop.clone());
    let serving = async {
        match service {
            Service::Stock => stock::serve(listener).await,
            Service::Reviews => {
                let router = Rc::new(grpc::Router::new().unary(service::REVIEWS_PATH, service::reviews));
                Serve::named("shop").run(listener, drain.watch(), move |_| router.clone()).await;
            }
            _ => {
                let handler = Rc::new(service::Handler { service, shop });
                Serve::named("shop").run(listener, drain.watch(), move |_| handler.clone()).await;
            }
        }
    };
    tokio::select! {
        () = serving => {}
        () = orders.follow_orders(input) => {}
    }
    Ok(())
}

// === impl Service ===

impl Service {
    /// All of them.
    pub const ALL: [Service; 7] = [
        Service::Front,
        Service::Catalog,
        Service::Cart,
        Service::Reviews,
        Service::Stock,
        Service::Payments,
        Service::Shipping,
    ];

    /// Its name in the mesh, in the namespace `shop`.
    pub fn name(self) -> &'static str {
        match self {
            Service::Front => "front",
            Service::Catalog => "catalog",
            Service::Cart => "cart",
            Service::Reviews => "reviews",
            Service::Stock => "stock",
            Service::Payments => "payments",
            Service::Shipping => "shipping",
        }
    }

    /// What it speaks, as `--port` says it.
    pub fn protocol(self) -> &'static str {
        match self {
            Service::Catalog => "http2",
            Service::Reviews => "grpc",
            Service::Stock => "tcp",
            _ => "http",
        }
    }

    /// The versions that run.
    pub fn versions(self) -> &'static [&'static str] {
        if self == Service::Cart { &["v1", "v2"] } else { &["v1"] }
    }
}

// === impl Order ===

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Order::Outbound(address) => write!(f, "outbound {address}"),
            Order::Stock(address) => write!(f, "stock {address}"),
            Order::Fail(percent) => write!(f, "fail {percent}"),
        }
    }
}

impl Order {
    fn parse(line: &str) -> Option<Self> {
        let (word, value) = line.split_once(' ')?;
        match word {
            "outbound" => value.parse().ok().map(Order::Outbound),
            "stock" => value.parse().ok().map(Order::Stock),
            "fail" => value.parse().ok().map(Order::Fail),
            _ => None,
        }
    }
}

// === impl Shop ===

impl Shop {
    /// Does what standard input says until it is closed.
    async fn follow_orders(&self, input: Receiver) {
        let mut lines = BufReader::new(input).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match Order::parse(&line) {
                Some(Order::Outbound(address)) => self.ways.borrow_mut().outbound = Some(address),
                Some(Order::Stock(address)) => self.ways.borrow_mut().stock = Some(address),
                Some(Order::Fail(percent)) => self.fail_percent.set(percent),
                None => eprintln!("leno: the shop: {line:?} is no order"),
            }
            println!("{DONE}{}", self.refused.get());
        }
    }

    /// Whether this request is one of those to be answered with 503; counted.
    fn fails_now(&self) -> bool {
        let fails = SystemRandom.below(100) < self.fail_percent.get();
        self.refused.set(self.refused.get() + u64::from(fails));
        fails
    }
}

/// Starts what drives an HTTP/2 connection.
fn drive(driver: impl Future<Output = ()> + 'static) {
    drop(task::spawn("shop-connection", driver));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_is_written() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        for order in [Order::Outbound(address), Order::Stock(address), Order::Fail(100)] {
            assert_eq!(Order::parse(&order.to_string()), Some(order));
        }
        for wrong in ["", "outbound", "outbound nowhere", "fail x", "sing 1"] {
            assert_eq!(Order::parse(wrong), None, "{wrong}");
        }
    }
}
