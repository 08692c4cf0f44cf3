//! The order from top to bottom: rows of machines and bands of networks.

use super::super::scene::Scene;
use super::PER_ROW;

/// A row of machines, or a band of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shelf {
    Row(Row),
    Band {
        network: usize,
        /// Which of the network's bands, and of how many.
        part: (usize, usize),
    },
}

/// Machines side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub machines: Vec<usize>,
    /// Whether some of them hang from the band above.
    pub hangs: bool,
    /// Whether some of them stand on the band below.
    pub stands: bool,
}

#[derive(Debug, Default)]
pub(super) struct Shelves {
    pub list: Vec<Shelf>,
    /// By machine and port: the band, counted from the top, and whether it is below the machine.
    ports: Vec<Vec<(usize, bool)>>,
    /// By machine: the number of its row.
    row: Vec<usize>,
}

/// Networks in the order in which a walk from the first one meets them, so that those with a
/// machine in common are neighbours.
fn order(scene: &Scene) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    let mut seen = vec![false; scene.networks.len()];
    // Machines by network: labs have up to thousands.
    let mut on: Vec<Vec<usize>> = vec![Vec::new(); scene.networks.len()];
    for (n, machine) in scene.machines.iter().enumerate() {
        for port in &machine.ports {
            on[port.network].push(n);
        }
    }
    for start in 0..scene.networks.len() {
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(network) = queue.pop_front() {
            if std::mem::replace(&mut seen[network], true) {
                continue;
            }
            order.push(network);
            for &machine in &on[network] {
                queue.extend(scene.machines[machine].ports.iter().map(|p| p.network));
            }
        }
    }
    order
}

/// Stacks rows and bands.
pub(super) fn build(scene: &Scene) -> Shelves {
    let order = order(scene);
    let mut rank = vec![0; scene.networks.len()];
    for (r, &network) in order.iter().enumerate() {
        rank[network] = r;
    }
    // By rank: machines on this network alone, and those that also reach later ones.
    let mut singles: Vec<Vec<usize>> = vec![Vec::new(); order.len()];
    let mut joints: Vec<Vec<usize>> = vec![Vec::new(); order.len()];
    let mut loose = Vec::new();
    for (n, machine) in scene.machines.iter().enumerate() {
        let ranks = machine.ports.iter().map(|p| rank[p.network]);
        match (ranks.clone().min(), ranks.max()) {
            (Some(low), Some(high)) if low == high => singles[low].push(n),
            (Some(low), _) => joints[low].push(n),
            _ => loose.push(n),
        }
    }
    let mut stack = Stack {
        shelves: Shelves {
            list: Vec::new(),
            ports: scene
                .machines
                .iter()
                .map(|m| vec![(0, false); m.ports.len()])
                .collect(),
            row: vec![0; scene.machines.len()],
        },
        bands: 0,
        rows: 0,
        first: vec![0; order.len()],
        last: vec![0; order.len()],
    };
    for machines in loose.chunks(PER_ROW) {
        stack.row(machines.to_vec(), false, false);
    }
    for r in 0..order.len() {
        let lonely = order.len() == 1 && singles[r].len() <= PER_ROW;
        let on_top = r == 0 && !lonely;
        stack.network(r, &order, &singles[r], &joints[r], on_top);
    }
    // Ports of joints: the lowest network's band is above, all others' first bands are below.
    for list in &joints {
        for &n in list {
            let low = scene.machines[n]
                .ports
                .iter()
                .map(|p| rank[p.network])
                .min();
            for (p, port) in scene.machines[n].ports.iter().enumerate() {
                let r = rank[port.network];
                stack.shelves.ports[n][p] = if Some(r) == low {
                    (stack.last[r], false)
                } else {
                    (stack.first[r], true)
                };
            }
        }
    }
    stack.shelves
}

struct Stack {
    shelves: Shelves,
    bands: usize,
    rows: usize,
    /// First and last band of each network, by rank.
    first: Vec<usize>,
    last: Vec<usize>,
}

impl Stack {
    fn row(&mut self, machines: Vec<usize>, hangs: bool, stands: bool) {
        for &m in &machines {
            self.shelves.row[m] = self.rows;
        }
        self.rows += 1;
        self.shelves.list.push(Shelf::Row(Row {
            machines,
            hangs,
            stands,
        }));
    }

    /// The bands of a network with the rows on both sides of each, and last the row of machines that
    /// reach later networks.
    fn network(
        &mut self,
        rank: usize,
        order: &[usize],
        singles: &[usize],
        joints: &[usize],
        on_top: bool,
    ) {
        let mut rows: Vec<Vec<usize>> = singles.chunks(PER_ROW).map(<[_]>::to_vec).collect();
        let mut standing = on_top && !rows.is_empty();
        // The last row may be shared with the joints if it hangs from the last band.
        let joint_rows: Vec<Vec<usize>> = joints.chunks(PER_ROW).map(<[_]>::to_vec).collect();
        let mut rows: std::collections::VecDeque<_> = rows.drain(..).collect();
        let mut bands = Vec::new();
        loop {
            if standing && let Some(row) = rows.pop_front() {
                self.attach(&row, self.bands, true);
                self.row(row, false, true);
            }
            bands.push(self.shelves.list.len());
            self.shelves.list.push(Shelf::Band {
                network: order[rank],
                part: (bands.len() - 1, 0),
            });
            let band = self.bands;
            self.bands += 1;
            standing = true;
            match rows.pop_front() {
                Some(mut row) => {
                    self.attach(&row, band, false);
                    let fits = joint_rows.len() == 1
                        && rows.is_empty()
                        && row.len() + joints.len() <= PER_ROW;
                    if fits {
                        // Joints in the middle of the row, where they are in most labs alone.
                        let at = row.len().div_ceil(2);
                        row.splice(at..at, joints.iter().copied());
                    }
                    self.row(row, true, fits);
                    if rows.is_empty() && (fits || joint_rows.is_empty()) {
                        self.end(rank, &bands);
                        return;
                    }
                }
                None => break,
            }
        }
        // Nothing hangs from the last band yet.
        self.end(rank, &bands);
        for (n, row) in joint_rows.into_iter().enumerate() {
            if n > 0 {
                // A further row of joints would hide the band from the next one.
                let list = &mut self.shelves.list;
                bands.push(list.len());
                list.push(Shelf::Band {
                    network: order[rank],
                    part: (bands.len() - 1, 0),
                });
                self.bands += 1;
            }
            self.row(row, true, true);
        }
        self.end(rank, &bands);
    }

    fn attach(&mut self, machines: &[usize], band: usize, down: bool) {
        for &m in machines {
            for port in &mut self.shelves.ports[m] {
                *port = (band, down);
            }
        }
    }

    /// Tells each band of a network how many there are.
    fn end(&mut self, rank: usize, bands: &[usize]) {
        for &at in bands {
            if let Shelf::Band { part, .. } = &mut self.shelves.list[at] {
                part.1 = bands.len();
            }
        }
        self.first[rank] = self.bands - bands.len();
        self.last[rank] = self.bands - 1;
    }
}

impl Shelves {
    /// Whether the band of this port is below its machine.
    pub fn down(&self, machine: usize, port: usize) -> bool {
        self.ports[machine][port].1
    }

    /// The band of this port.
    pub fn band(&self, machine: usize, port: usize) -> usize {
        self.ports[machine][port].0
    }

    /// The rows alone.
    pub fn rows(&self) -> Vec<&Row> {
        self.list
            .iter()
            .filter_map(|s| match s {
                Shelf::Row(row) => Some(row),
                Shelf::Band { .. } => None,
            })
            .collect()
    }

    /// Whether a network has several bands.
    pub fn wraps(&self) -> impl Iterator<Item = usize> {
        self.list.iter().filter_map(|s| match s {
            Shelf::Band { network, part } if part.1 > 1 => Some(*network),
            _ => None,
        })
    }

    /// The first row that a stub of this machine, which stands in row `row`, need not pass; `None` if
    /// its bands are the next ones.
    pub fn passes_until(&self, machine: usize, row: usize) -> Option<usize> {
        let farthest = self.ports[machine]
            .iter()
            .filter(|(_, down)| *down)
            .map(|(band, _)| *band)
            .max()?;
        let (mut rows, mut bands) = (0, 0);
        for shelf in &self.list {
            match shelf {
                Shelf::Row(_) => rows += 1,
                Shelf::Band { .. } if bands == farthest => break,
                Shelf::Band { .. } => bands += 1,
            }
        }
        (rows > row + 1).then_some(rows)
    }

    /// Ports of a machine at its lower or upper edge, with the place of their stubs there.
    pub fn stub_offsets(
        &self,
        machine: usize,
        down: bool,
        width: f32,
    ) -> impl Iterator<Item = (usize, f32)> {
        let side: Vec<_> = (0..self.ports[machine].len())
            .filter(|&p| self.down(machine, p) == down)
            .collect();
        let pitch = width / side.len() as f32;
        side.into_iter()
            .enumerate()
            .map(move |(n, port)| (port, pitch * (n as f32 + 0.5)))
    }
}
