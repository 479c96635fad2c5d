//! A TCP link to a service: it can be away, cut, frozen, slowed and garbled, and it can strike at a step of AMQP.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{oneshot, watch},
    task::{AbortHandle, JoinHandle},
};

use super::frames::{Direction, Framer, Shared, Step, Unit};

/// A port that leads to `target` while it is open, and refuses while it is closed.
pub struct Proxy {
    pub address: SocketAddr,
    /// Bound and never listening, so that nobody else gets the port while it is closed.
    _reserved: TcpSocket,
    link: Arc<Link>,
    accepting: Option<JoinHandle<()>>,
}

/// Its class and its method, after the head of its frame.
const CONNECTION_TUNE: [u8; 4] = [0, 10, 0, 30];

/// How a frame or message arrives that is garbled.
#[derive(Clone, Copy, Debug)]
pub enum Garble {
    Noise = 1,
    /// As it was, but for its length, which is that of many frames.
    Length = 2,
}

/// How bytes pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Open,
    /// Connections stand and are made, and nothing passes either way.
    Frozen,
    /// At most so many bytes a second, each way of each connection.
    Slow(u32),
}

/// Whether a step is seen by the other side before the strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Before,
    After,
}

/// What is done at a step.
#[derive(Clone, Copy, Debug)]
pub enum Strike {
    /// SIGKILL.
    Kill(u32),
    /// The connection that it was seen on ends.
    Cut,
}

struct PendingStrike {
    step: Step,
    /// How many of them still pass.
    left: usize,
    when: When,
    strike: Strike,
    done: oneshot::Sender<()>,
}

struct Link {
    target: SocketAddr,
    amqp: bool,
    /// Of the connections that are made from now on; the last one. Those before it are of connections that are stranded.
    modes: Mutex<Vec<watch::Sender<Mode>>>,
    pending_strikes: Mutex<Vec<PendingStrike>>,
    /// Never arrives.
    swallowed: Mutex<Vec<Step>>,
    /// Channels that the broker allows on a connection, as the process hears it; 0: as it says itself.
    channel_max: AtomicU16,
    /// What ends the connection on which it comes to the process.
    forbidden: Mutex<Option<Vec<u8>>>,
    /// How the next unit is to be garbled, by way; 0: not.
    garbled: [AtomicU32; 2],
    accepted: AtomicU32,
    connections: Mutex<Vec<Forwarding>>,
}

struct Forwarding {
    /// How the process calls its connection, once it has said so.
    name: Arc<Mutex<String>>,
    task: AbortHandle,
}

impl Proxy {
    /// Closed at first: connections are refused.
    pub fn closed(target: SocketAddr) -> Self {
        Self::to(target, false)
    }

    /// A closed one that understands AMQP.
    pub fn amqp(target: SocketAddr) -> Self {
        Self::to(target, true)
    }

    fn to(target: SocketAddr, amqp: bool) -> Self {
        let reserved = socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = reserved.local_addr().expect("an address");
        let link = Arc::new(Link {
            target,
            amqp,
            modes: Mutex::new(vec![watch::Sender::new(Mode::Open)]),
            pending_strikes: Mutex::default(),
            swallowed: Mutex::default(),
            channel_max: AtomicU16::new(0),
            forbidden: Mutex::default(),
            garbled: Default::default(),
            accepted: AtomicU32::new(0),
            connections: Mutex::default(),
        });
        Self { address, _reserved: reserved, link, accepting: None }
    }

    pub fn open(&mut self) {
        let listener = socket(self.address).listen(1024).expect("the port is reserved");
        self.accepting = Some(tokio::spawn(accept(listener, Arc::clone(&self.link))));
    }

    /// `url` of its target, led through here.
    pub fn redirect(&self, url: &str) -> String {
        url.replace(&self.link.target.to_string(), &self.address.to_string())
    }

    /// Ends every connection and refuses new ones.
    pub async fn close(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _ = accepting.await;
        }
        self.cut("");
    }

    pub fn set(&self, mode: Mode) {
        self.link.modes.lock().expect("unpoisoned").last().expect("a mode").send_replace(mode);
    }

    /// Nothing passes any more on the connections that stand, for ever; those made from now on are well. So does a
    /// firewall that forgot them.
    pub fn strand(&self) {
        self.set(Mode::Frozen);
        self.link.modes.lock().expect("unpoisoned").push(watch::Sender::new(Mode::Open));
    }

    /// Connections that were accepted until now.
    pub fn accepted(&self) -> u32 {
        self.link.accepted.load(Ordering::SeqCst)
    }

    /// Ends the connections whose name contains `name`, and says how many.
    pub fn cut(&self, name: &str) -> usize {
        let mut connections = self.link.connections.lock().expect("unpoisoned");
        connections.retain(|connection| !connection.task.is_finished());
        let before = connections.len();
        connections.retain(|connection| {
            let matches = connection.name.lock().expect("unpoisoned").contains(name);
            if matches {
                connection.task.abort();
            }
            !matches
        });
        before - connections.len()
    }

    /// The next unit (of AMQP a frame or message, else what is read at a time) arrives as noise.
    pub fn garble(&self, direction: Direction, garble: Garble) {
        self.link.garbled[direction as usize].store(garble as u32, Ordering::SeqCst);
    }

    /// From now on these steps never arrive; everything else does.
    pub fn swallow(&self, steps: &[Step]) {
        *self.link.swallowed.lock().expect("unpoisoned") = steps.to_vec();
    }

    /// From now on the broker allows at most `max_channels` channels on a connection.
    pub fn limit_channels(&self, max_channels: u16) {
        self.link.channel_max.store(max_channels, Ordering::SeqCst);
    }

    /// From now on a connection ends when these bytes are to come to the process, and they do not arrive.
    pub fn forbid(&self, bytes: &[u8]) {
        *self.link.forbidden.lock().expect("unpoisoned") = Some(bytes.to_vec());
    }

    /// Strikes at the `nth` `step` from now on. What is returned resolves when it has.
    pub fn strike(&self, step: Step, nth: usize, when: When, strike: Strike) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let pending_strike = PendingStrike { step, left: nth, when, strike, done };
        self.link.pending_strikes.lock().expect("unpoisoned").push(pending_strike);
        receiver
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
        self.cut("");
    }
}

fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(address).expect("a free port");
    socket
}

async fn accept(listener: TcpListener, link: Arc<Link>) {
    while let Ok((process, _)) = listener.accept().await {
        link.accepted.fetch_add(1, Ordering::SeqCst);
        let name = Arc::new(Mutex::new(String::new()));
        let forwarding = tokio::spawn(forward(Arc::clone(&link), process, Arc::clone(&name)));
        let mut connections = link.connections.lock().expect("unpoisoned");
        connections.retain(|connection| !connection.task.is_finished());
        connections.push(Forwarding { name, task: forwarding.abort_handle() });
    }
}

async fn forward(link: Arc<Link>, process: TcpStream, name: Arc<Mutex<String>>) {
    let mode = link.modes.lock().expect("unpoisoned").last().expect("a mode").subscribe();
    // A frozen link reaches nobody.
    let _ = mode.clone().wait_for(|mode| *mode != Mode::Frozen).await;
    let Ok(service) = TcpStream::connect(link.target).await else { return };
    let _ = (process.set_nodelay(true), service.set_nodelay(true));
    let ((from_process, to_process), (from_service, to_service)) =
        (process.into_split(), service.into_split());
    let shared = Shared::default();
    let framer = |direction| link.amqp.then(|| Framer::new(direction, shared.clone()));
    let pump = |direction| Pump { link: &link, name: &name, direction, framer: framer(direction) };
    // A strike that ends the connection ends both ways at once.
    let _ = tokio::try_join!(
        pump(Direction::ToService).run(from_process, to_service, mode.clone()),
        pump(Direction::ToProcess).run(from_service, to_process, mode.clone())
    );
}

/// The connection is to end.
struct Cut;

/// One way of one connection.
struct Pump<'a> {
    link: &'a Link,
    name: &'a Mutex<String>,
    direction: Direction,
    framer: Option<Framer>,
}

impl Pump<'_> {
    async fn run(
        mut self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        mut mode: watch::Receiver<Mode>,
    ) -> Result<(), Cut> {
        let mut buffer = vec![0; 64 << 10];
        let mut delivered = true;
        loop {
            let _ = mode.wait_for(|mode| *mode != Mode::Frozen).await;
            let count = tokio::select! {
                read = from.read(&mut buffer) => read.unwrap_or(0),
                _ = mode.changed() => continue,
            };
            if count == 0 {
                // The other side may still have something to say.
                let _ = to.shutdown().await;
                return Ok(());
            }
            for unit in self.units(&buffer[..count]) {
                // What a dead process is sent is thrown away, while what it said before still arrives.
                delivered = delivered && self.pass(unit, &mut to, &mut mode).await?;
            }
        }
    }

    fn units(&mut self, bytes: &[u8]) -> Vec<Unit> {
        match &mut self.framer {
            Some(framer) => framer.push(bytes),
            None => vec![Unit { bytes: bytes.to_vec(), step: Step::Other }],
        }
    }

    async fn pass(
        &self,
        mut unit: Unit,
        to: &mut OwnedWriteHalf,
        mode: &mut watch::Receiver<Mode>,
    ) -> Result<bool, Cut> {
        if unit.step == Step::Named {
            *self.name.lock().expect("unpoisoned") = String::from_utf8_lossy(&unit.bytes).into_owned();
        }
        if self.link.swallowed.lock().expect("unpoisoned").contains(&unit.step) {
            return Ok(true);
        }
        if self.direction == Direction::ToProcess && self.link.is_forbidden(&unit.bytes) {
            return Err(Cut);
        }
        let max_channels = self.link.channel_max.load(Ordering::SeqCst);
        if max_channels != 0 && unit.bytes.get(7..11) == Some(&CONNECTION_TUNE) {
            unit.bytes[11..13].copy_from_slice(&max_channels.to_be_bytes());
        }
        let pending_strike = self.link.take_due_strike(unit.step);
        if let Some(PendingStrike { when: When::Before, .. }) = pending_strike {
            pending_strike.expect("it matched").carry_out();
            return Err(Cut);
        }
        match self.link.garbled[self.direction as usize].swap(0, Ordering::SeqCst) {
            0 => {}
            // The length of an AMQP frame comes after its type and its channel.
            garble if garble == Garble::Length as u32 => unit.bytes[3] = 0x7f,
            _ => unit.bytes.fill_with(rand::random),
        }
        let delivered = write(&unit.bytes, to, mode).await;
        match pending_strike {
            Some(pending_strike) => {
                let ends = matches!(pending_strike.strike, Strike::Cut);
                pending_strike.carry_out();
                if ends { Err(Cut) } else { Ok(delivered) }
            }
            None => Ok(delivered),
        }
    }
}

async fn write(mut bytes: &[u8], to: &mut OwnedWriteHalf, mode: &mut watch::Receiver<Mode>) -> bool {
    while !bytes.is_empty() {
        let now = mode.wait_for(|mode| *mode != Mode::Frozen).await.map_or(Mode::Open, |mode| *mode);
        let Mode::Slow(rate) = now else { return to.write_all(bytes).await.is_ok() };
        let (slice, rest) = bytes.split_at(bytes.len().min(1024));
        if to.write_all(slice).await.is_err() {
            return false;
        }
        bytes = rest;
        let pause = Duration::from_secs(slice.len() as u64) / rate;
        let _ = tokio::time::timeout(pause, mode.changed()).await;
    }
    true
}

impl Link {
    fn is_forbidden(&self, bytes: &[u8]) -> bool {
        let forbidden = self.forbidden.lock().expect("unpoisoned");
        forbidden.as_ref().is_some_and(|this| bytes.windows(this.len()).any(|part| part == this))
    }

    fn take_due_strike(&self, step: Step) -> Option<PendingStrike> {
        if step == Step::Other {
            return None;
        }
        let mut pending_strikes = self.pending_strikes.lock().expect("unpoisoned");
        let index = pending_strikes.iter().position(|pending_strike| pending_strike.step == step)?;
        pending_strikes[index].left -= 1;
        (pending_strikes[index].left == 0).then(|| pending_strikes.remove(index))
    }
}

impl PendingStrike {
    fn carry_out(self) {
        if let Strike::Kill(pid) = self.strike {
            let _ = kill(Pid::from_raw(pid.try_into().expect("a pid")), Signal::SIGKILL);
        }
        let _ = self.done.send(());
    }
}
