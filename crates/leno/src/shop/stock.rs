//! Stock: a protocol of lines over TCP, `COUNT teapot` there and `OK 7` back.

use std::net::SocketAddr;
use std::time::Duration;

use leno_runtime::task;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::call::CallError;

/// The longest line, and all that is read of a connection.
const LINES_BYTES_MAX: u64 = 64 * 1024;
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// Serves connections for ever.
pub async fn serve(listener: TcpListener) {
    loop {
        let accepted = leno_net::listen::accept(&listener).await;
        drop(task::spawn("shop-connection", async move {
            let stream = accepted.stream;
            // An error means that the caller is gone.
            let _ = answer_lines(stream).await;
        }));
    }
}

async fn answer_lines(stream: leno_net::Stream) -> std::io::Result<()> {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut lines = BufReader::new(reader.take(LINES_BYTES_MAX)).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match line.split_once(' ') {
            // As good a number as any, and the same each time.
            Some(("COUNT", product)) => format!("OK {}\n", product.len()),
            _ => "ERROR write COUNT and the name of a product\n".to_owned(),
        };
        writer.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// Asks how many there are, over a connection of its own.
pub async fn count(stock: Option<SocketAddr>, product: &str) -> Result<u64, CallError> {
    let stock = stock.ok_or(CallError::NoWay)?;
    let ask = async {
        let mut stream = TcpStream::connect(stock).await?;
        stream.write_all(format!("COUNT {product}\n").as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(stream.take(LINES_BYTES_MAX)).read_line(&mut line).await?;
        line.trim_end().strip_prefix("OK ").and_then(|count| count.parse().ok()).ok_or(CallError::Answer)
    };
    timeout(ANSWER_TIMEOUT, ask).await.unwrap_or(Err(CallError::Timeout))
}
