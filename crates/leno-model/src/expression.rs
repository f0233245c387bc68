//! Arithmetic over an endpoint, as a policy writes it: the part of CEL (the Common Expression Language) that needs no loop and
//! no memory.
//!
//! ```text
//! text ─ read: types, names, limits ─► Expression ─ resolve: one endpoint, one caller ─► Program ─ run: its load now ─► f64
//! ```
//!
//! What can be wrong is found when it is read, with the column and the fix; a [`Program`] cannot fail. Zones, versions and labels
//! are fixed as long as an endpoint is, so that whatever is said of them is settled by [`Expression::resolve`], and what is left
//! is numbers on a small stack: no jump, no allocation, no text.
//!
//! An expression that is read here is one of CEL and means what it means there, but for three things: numbers are doubles, so
//! that `1` is `1.0`; a label that is missing is `''`, where CEL gives up; `latencyMs` and the like are names that leno gives.
//! Rejected: the crate `cel`, whose values are allocated and compared by name at each evaluation, which knows no types ahead and
//! no limit of cost, and which brings the runtime of ANTLR along.

use std::collections::BTreeMap;

mod read;
#[cfg(test)]
mod tests;

/// Characters of an expression.
pub const TEXT_MAX: usize = 1024;
/// Operators, functions, and entries of lists: what an evaluation costs at most.
pub const OPERATIONS_MAX: usize = 100;
/// Parentheses, calls and choices within each other.
pub const NESTING_MAX: usize = 24;
/// Numbers that wait for another one.
const STACK_MAX: usize = 32;

/// An expression that gives a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    root: Node,
}

/// An expression that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}; {fix}")]
pub struct Unreadable {
    /// Where, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub fix: String,
}

/// What is fixed of an endpoint, or of a caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The zone.
    pub zone: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The version.
    pub version: Option<String>,
    /// Labels, by name.
    pub labels: BTreeMap<String, String>,
}

/// What changes of an endpoint while requests go on.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Now {
    /// Requests that this proxy has open with it.
    pub open_requests: f64,
    /// Those and one more, for its weight beside the mean of all.
    pub occupancy: f64,
    /// What its answers take, in milliseconds.
    pub latency_ms: f64,
    /// What it reported last, where it did.
    pub reported: Option<Reported>,
}

/// What an endpoint reports of itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reported {
    /// The part of what it has that is in use.
    pub utilization: f64,
    /// Requests a second that it serves, of all callers.
    pub requests_per_second: f64,
    /// Those that fail.
    pub errors_per_second: f64,
}

/// An expression about one endpoint, as arithmetic.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    steps: Box<[Step]>,
}

/// A number, of which truth is 1 or 0.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Number(f64),
    Weight,
    Of(Quantity),
    About(About),
    One(One, Box<Node>),
    Two(Two, Box<Node>, Box<Node>),
    /// The second where the first is true, else the third.
    Choice(Box<[Node; 3]>),
}

/// What is only known while requests go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    OpenRequests,
    Occupancy,
    LatencyMs,
    IsReported,
    Utilization,
    RequestsPerSecond,
    ErrorsPerSecond,
}

/// Something said about texts.
#[derive(Debug, Clone, PartialEq)]
enum About {
    Same(Text, Text),
    Within(Text, Box<[Text]>),
    Begins(Text, Text),
    Ends(Text, Text),
    Contains(Text, Text),
    /// Whether there is one.
    Has(Fact),
}

#[derive(Debug, Clone, PartialEq)]
enum Text {
    Written(String),
    Of(Fact),
}

/// A text of the endpoint, or of the caller.
#[derive(Debug, Clone, PartialEq)]
struct Fact {
    of_caller: bool,
    name: Named,
}

#[derive(Debug, Clone, PartialEq)]
enum Named {
    Zone,
    Region,
    Version,
    Label(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum One {
    Minus,
    Not,
    Absolute,
    Root,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Two {
    Add,
    Subtract,
    Multiply,
    Divide,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    And,
    Or,
    Least,
    Greatest,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Push(f64),
    Load(Quantity),
    One(One),
    Two(Two),
    Choose,
}

// === impl Expression ===

impl Expression {
    /// Reads an expression that gives a number.
    pub fn read(text: &str) -> Result<Self, Unreadable> {
        let root = read::number(text)?;
        if root.depth() > STACK_MAX {
            let fix = "begin with what stands in parentheses: `(a + b) * c` for `c * (a + b)`".to_owned();
            return Err(Unreadable { column: 1, message: "too much of it waits for something else".to_owned(), fix });
        }
        Ok(Self { root })
    }

    /// The labels of endpoints that it looks at, each once.
    pub fn labels(&self) -> Vec<&str> {
        let mut labels = Vec::new();
        self.root.facts(&mut |fact| {
            if let (false, Named::Label(label)) = (fact.of_caller, &fact.name)
                && !labels.contains(&label.as_str())
            {
                labels.push(label);
            }
        });
        labels
    }

    /// Whether it looks at what endpoints report.
    pub fn heeds_reports(&self) -> bool {
        self.root.any(&|node| matches!(node, Node::Of(quantity) if quantity.is_reported()))
    }

    /// What is left of it for an endpoint of this weight and a caller.
    pub fn resolve(&self, weight: u32, endpoint: &Facts, caller: &Facts) -> Program {
        let mut steps = Vec::new();
        self.root.resolved(weight, endpoint, caller).emit(&mut steps);
        Program { steps: steps.into() }
    }
}

// === impl Program ===

impl Program {
    /// What it comes to now.
    pub fn run(&self, now: &Now) -> f64 {
        let mut stack = [0.0; STACK_MAX];
        let mut top = 0;
        for step in &self.steps {
            // Reading bounds the depth; a number that found no place would be one that nobody asks for.
            match *step {
                Step::Push(number) => {
                    stack[top % STACK_MAX] = number;
                    top += 1;
                }
                Step::Load(quantity) => {
                    stack[top % STACK_MAX] = quantity.of(now);
                    top += 1;
                }
                Step::One(one) => {
                    let at = (top - 1) % STACK_MAX;
                    stack[at] = one.of(stack[at]);
                }
                Step::Two(two) => {
                    top -= 1;
                    let (left, right) = ((top - 1) % STACK_MAX, top % STACK_MAX);
                    stack[left] = two.of(stack[left], stack[right]);
                }
                Step::Choose => {
                    top -= 2;
                    let at = (top - 1) % STACK_MAX;
                    let chosen = if is_true(stack[at]) { top } else { top + 1 };
                    stack[at] = stack[chosen % STACK_MAX];
                }
            }
        }
        stack[0]
    }

    /// Whether it looks at what the endpoint reports.
    pub fn heeds_reports(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Load(quantity) if quantity.is_reported()))
    }

    /// How many steps a run takes.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }
}

// === impl Node ===

impl Node {
    fn any(&self, is: &impl Fn(&Self) -> bool) -> bool {
        is(self)
            || match self {
                Self::Number(_) | Self::Weight | Self::Of(_) | Self::About(_) => false,
                Self::One(_, of) => of.any(is),
                Self::Two(_, left, right) => left.any(is) || right.any(is),
                Self::Choice(parts) => parts.iter().any(|part| part.any(is)),
            }
    }

    fn facts<'n>(&'n self, take: &mut impl FnMut(&'n Fact)) {
        match self {
            Self::Number(_) | Self::Weight | Self::Of(_) => {}
            Self::About(about) => about.facts(take),
            Self::One(_, of) => of.facts(take),
            Self::Two(_, left, right) => {
                left.facts(take);
                right.facts(take);
            }
            Self::Choice(parts) => parts.iter().for_each(|part| part.facts(take)),
        }
    }

    /// Numbers that stand on the stack at once.
    fn depth(&self) -> usize {
        match self {
            Self::Number(_) | Self::Weight | Self::Of(_) | Self::About(_) => 1,
            Self::One(_, of) => of.depth(),
            Self::Two(_, left, right) => left.depth().max(right.depth() + 1),
            Self::Choice(parts) => parts.iter().zip(0..).map(|(part, below)| part.depth() + below).max().unwrap_or(1),
        }
    }

    /// With all that is fixed as numbers, and sums of numbers as their result.
    fn resolved(&self, weight: u32, endpoint: &Facts, caller: &Facts) -> Self {
        let of = |node: &Self| node.resolved(weight, endpoint, caller);
        match self {
            Self::Number(number) => Self::Number(*number),
            Self::Weight => Self::Number(weight.into()),
            Self::Of(quantity) => Self::Of(*quantity),
            Self::About(about) => Self::Number(truth(about.holds(endpoint, caller))),
            Self::One(one, node) => match of(node) {
                Self::Number(number) => Self::Number(one.of(number)),
                node => Self::One(*one, Box::new(node)),
            },
            Self::Two(two, left, right) => match (of(left), of(right)) {
                (Self::Number(left), Self::Number(right)) => Self::Number(two.of(left, right)),
                (left, right) => Self::Two(*two, Box::new(left), Box::new(right)),
            },
            Self::Choice(parts) => match of(&parts[0]) {
                Self::Number(number) => of(&parts[if is_true(number) { 1 } else { 2 }]),
                when => Self::Choice(Box::new([when, of(&parts[1]), of(&parts[2])])),
            },
        }
    }

    fn emit(&self, steps: &mut Vec<Step>) {
        match self {
            Self::Number(number) => steps.push(Step::Push(*number)),
            // What is resolved has none of them left.
            Self::Weight | Self::About(_) => steps.push(Step::Push(0.0)),
            Self::Of(quantity) => steps.push(Step::Load(*quantity)),
            Self::One(one, of) => {
                of.emit(steps);
                steps.push(Step::One(*one));
            }
            Self::Two(two, left, right) => {
                left.emit(steps);
                right.emit(steps);
                steps.push(Step::Two(*two));
            }
            Self::Choice(parts) => {
                parts.iter().for_each(|part| part.emit(steps));
                steps.push(Step::Choose);
            }
        }
    }
}

// === impl About ===

impl About {
    fn facts<'a>(&'a self, take: &mut impl FnMut(&'a Fact)) {
        let mut text = |text: &'a Text| {
            if let Text::Of(fact) = text {
                take(fact);
            }
        };
        match self {
            Self::Same(a, b) | Self::Begins(a, b) | Self::Ends(a, b) | Self::Contains(a, b) => {
                text(a);
                text(b);
            }
            Self::Within(one, of) => {
                text(one);
                of.iter().for_each(text);
            }
            Self::Has(fact) => take(fact),
        }
    }

    fn holds(&self, endpoint: &Facts, caller: &Facts) -> bool {
        let of = |fact: &'_ Fact| if fact.of_caller { caller } else { endpoint }.get(&fact.name).map(str::to_owned);
        let text = |text: &Text| match text {
            Text::Written(text) => text.clone(),
            Text::Of(fact) => of(fact).unwrap_or_default(),
        };
        match self {
            Self::Same(a, b) => text(a) == text(b),
            Self::Within(one, all) => all.iter().any(|of| text(of) == text(one)),
            Self::Begins(a, b) => text(a).starts_with(&text(b)),
            Self::Ends(a, b) => text(a).ends_with(&text(b)),
            Self::Contains(a, b) => text(a).contains(&text(b)),
            Self::Has(fact) => of(fact).is_some(),
        }
    }
}

// === impl Facts ===

impl Facts {
    fn get(&self, name: &Named) -> Option<&str> {
        match name {
            Named::Zone => self.zone.as_deref(),
            Named::Region => self.region.as_deref(),
            Named::Version => self.version.as_deref(),
            Named::Label(label) => self.labels.get(label).map(String::as_str),
        }
    }
}

// === impl Quantity ===

impl Quantity {
    fn is_reported(self) -> bool {
        matches!(self, Self::IsReported | Self::Utilization | Self::RequestsPerSecond | Self::ErrorsPerSecond)
    }

    fn of(self, now: &Now) -> f64 {
        let reported = || now.reported.unwrap_or_default();
        match self {
            Self::OpenRequests => now.open_requests,
            Self::Occupancy => now.occupancy,
            Self::LatencyMs => now.latency_ms,
            Self::IsReported => truth(now.reported.is_some()),
            Self::Utilization => reported().utilization,
            Self::RequestsPerSecond => reported().requests_per_second,
            Self::ErrorsPerSecond => reported().errors_per_second,
        }
    }
}

// === impl One ===

impl One {
    fn of(self, number: f64) -> f64 {
        match self {
            Self::Minus => -number,
            Self::Not => truth(!is_true(number)),
            Self::Absolute => number.abs(),
            Self::Root => number.sqrt(),
        }
    }
}

// === impl Two ===

impl Two {
    fn of(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
            Self::Less => truth(left < right),
            Self::LessOrEqual => truth(left <= right),
            Self::Equal => truth(left == right),
            Self::NotEqual => truth(left != right),
            Self::And => truth(is_true(left) && is_true(right)),
            Self::Or => truth(is_true(left) || is_true(right)),
            Self::Least => left.min(right),
            Self::Greatest => left.max(right),
        }
    }
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn is_true(number: f64) -> bool {
    number != 0.0
}
