use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use leno_model::seam::Timestamp;
use leno_telemetry::Flag;

use super::*;

/// A clock that a test turns, in seconds.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Relaxed))
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.0.load(Relaxed) * 1000)
    }
}

type Answer = io::Result<Vec<IpAddr>>;

/// Names whose server answers `silent…` when the test says so, `none…` with an error and all else at once.
struct Test {
    names: OutsideNames,
    clock: Arc<Hand>,
    asked: Arc<AtomicUsize>,
    answer: SyncSender<Answer>,
}

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn names() -> Test {
    let (clock, asked) = (Arc::<Hand>::default(), Arc::<AtomicUsize>::default());
    let (answer, answers) = sync_channel(LOOK_UPS_MAX);
    let (answers, counted) = (Mutex::new(answers), asked.clone());
    let look_up = move |name: &str| {
        counted.fetch_add(1, Relaxed);
        match name {
            name if name.starts_with("silent") => heard(&answers),
            name if name.starts_with("none") => Err(io::Error::other("failed to lookup address information: no name")),
            _ => Ok(vec![ONE; 20]),
        }
    };
    Test { names: OutsideNames::new(Arc::new(look_up), clock.clone()), clock, asked, answer }
}

fn heard(answers: &Mutex<Receiver<Answer>>) -> Answer {
    answers.lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

// === impl Test ===

impl Test {
    async fn find(&self, name: &str) -> Result<Found, Failure> {
        self.names.find(name).await
    }

    /// The status and the reason that a name is answered with.
    async fn refused(&self, name: &str) -> (u16, &'static str) {
        let failure = self.find(name).await.expect_err("it has no address");
        (failure.status(), failure.flag().reason())
    }

    fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }

    fn turn(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds, Relaxed);
    }

    /// Begins look-ups that nobody answers.
    async fn begin(&self, names: impl IntoIterator<Item = String>) {
        for name in names {
            let before = self.asked();
            assert!(self.names.known(&name).is_ok(), "{name} was not looked up");
            self.until(|| self.asked() > before).await;
        }
    }

    /// Answers as many look-ups, and waits until they are over.
    async fn answer(&self, count: usize, answer: impl Fn() -> Answer) {
        let left = self.under_way() - count;
        (0..count).for_each(|_| self.answer.send(answer()).expect("a look-up waits for it"));
        self.until(|| self.under_way() == left).await;
    }

    fn under_way(&self) -> usize {
        self.names.names.borrow().values().filter(|known| known.is_under_way()).count()
    }

    /// Waits for other threads, in their time, whatever the runtime's clock says.
    async fn until(&self, is_so: impl Fn() -> bool) {
        for _ in 0..20_000 {
            if is_so() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
        panic!("it does not come to that within twenty seconds");
    }
}

fn silent(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("silent-{number}.example"))
}

fn no_answer() -> Answer {
    Err(io::Error::other("no answer"))
}

#[tokio::test]
async fn equal_names_are_looked_up_once() {
    let test = names();
    let answers = async {
        test.until(|| test.asked() >= 1).await;
        test.answer(1, || Ok(vec![ONE])).await;
    };
    let (one, other, ()) = tokio::join!(test.find("silent.example"), test.find("Silent.Example"), answers);
    assert_eq!((one.unwrap(), test.asked()), (other.unwrap(), 1));
}

#[tokio::test]
async fn addresses_hold_for_half_a_minute() {
    let test = names();
    let found = test.find("world.example").await.unwrap();
    assert_eq!((&*found.addresses, found.until), (&[ONE; ADDRESSES_MAX][..], FOUND_TTL));
    test.turn(29);
    assert_eq!((test.find("world.example").await.unwrap(), test.asked()), (found, 1));
    test.turn(1);
    assert_eq!(test.find("world.example").await.unwrap().until, 2 * FOUND_TTL);
    assert_eq!(test.asked(), 2);
}

#[tokio::test]
async fn that_a_name_has_no_address_holds_for_two_seconds() {
    let test = names();
    let failure = test.find("none.example").await.unwrap_err();
    assert_eq!((failure.to_string().as_str(), failure.status()), ("none.example does not resolve: no name", 502));
    test.turn(1);
    assert_eq!((test.refused("none.example").await, test.asked()), ((502, "dns_failure"), 1));
    test.turn(1);
    assert_eq!((test.refused("none.example").await, test.asked()), ((502, "dns_failure"), 2));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_deadline_and_who_comes_late_not_at_all() {
    let test = names();
    test.begin(["silent.example".to_owned()]).await;
    let began = tokio::time::Instant::now();
    assert_eq!(test.refused("silent.example").await, (504, "dns_timeout"));
    assert_eq!(began.elapsed().as_secs(), DEADLINE.as_secs());
    test.turn(DEADLINE.as_secs());
    let began = tokio::time::Instant::now();
    assert_eq!(test.refused("silent.example").await, (504, "dns_timeout"));
    assert_eq!((began.elapsed().as_secs(), test.asked()), (0, 1));
    // An answer that nobody waited for is an answer all the same.
    test.answer(1, || Ok(vec![ONE])).await;
    assert_eq!(&*test.find("silent.example").await.unwrap().addresses, [ONE]);
}

#[tokio::test]
async fn when_too_many_are_under_way_a_name_is_refused_at_once_and_a_known_one_is_not() {
    let test = names();
    test.find("world.example").await.unwrap();
    test.begin(silent(LOOK_UPS_MAX)).await;
    let failure = test.find("other.example").await.unwrap_err();
    assert_eq!((failure.status(), failure.flag()), (503, Flag::DnsOverflow), "{failure}");
    assert!(test.find("world.example").await.is_ok() && test.find("192.0.2.7").await.is_ok());
    test.answer(1, no_answer).await;
    assert!(test.find("other.example").await.is_ok());
}

#[tokio::test]
async fn names_that_were_late_leave_half_of_the_look_ups_to_others() {
    let test = names();
    test.begin(silent(LATE_MAX + 1)).await;
    test.turn(DEADLINE.as_secs());
    test.answer(LATE_MAX + 1, no_answer).await;
    test.turn(FAILED_TTL.as_secs());
    test.begin(silent(LATE_MAX)).await;
    let last = format!("silent-{LATE_MAX}.example");
    assert_eq!(test.refused(&last).await, (503, "dns_overflow"));
    assert!(test.find("other.example").await.is_ok());
    // Once in a while each is like any other.
    test.turn(LATE_TTL.as_secs());
    test.begin([last]).await;
}

#[tokio::test]
async fn no_more_names_are_remembered_than_there_is_room_for() {
    let test = names();
    test.begin(silent(1)).await;
    for number in 0..2 * NAMES_MAX {
        test.find(&format!("{number}.example")).await.unwrap();
    }
    assert!(test.names.names.borrow().len() <= NAMES_MAX && test.under_way() == 1);
    assert_eq!(test.refused(&"long.".repeat(60)).await, (502, "dns_failure"));
    test.turn(FOUND_TTL.as_secs());
    test.names.sweep();
    assert_eq!(test.names.names.borrow().len(), 1);
}

#[test]
fn the_host_knows_its_own_name_and_not_every_name() {
    assert!(of_host("localhost").unwrap().iter().all(IpAddr::is_loopback));
    // No name server is asked for it: no name is empty between its dots.
    assert!(of_host("nowhere..invalid").is_err());
}
