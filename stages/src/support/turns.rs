//! Work on several threads whose results are taken in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Calls `make` with each number below `count`, on as many threads as the rayon pool it is called from has, and `take`
/// with the results, one at a time and in order. Each thread waits with what it made until the results before are taken,
/// so that no more of them exist than there are threads.
///
/// # Errors
/// What `make` or `take` fails with; of several failures that of the smallest number.
pub fn in_order<T>(
    count: usize,
    make: impl Fn(usize) -> anyhow::Result<T> + Sync,
    mut take: impl FnMut(usize, T) -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    let threads = rayon::current_num_threads().min(count);
    if threads <= 1 {
        return (0..count).try_for_each(|number| take(number, make(number)?));
    }
    struct Turn<F> {
        next: usize,
        failed: Option<anyhow::Error>,
        take: F,
    }
    let started = AtomicUsize::new(0);
    let turn = Mutex::new(Turn { next: 0, failed: None, take: &mut take });
    let moved = Condvar::new();
    let work = || {
        loop {
            let number = started.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let made = make(number);
            let mut now = lock(&turn);
            while now.next != number && now.failed.is_none() {
                now = moved.wait(now).unwrap_or_else(PoisonError::into_inner);
            }
            if now.failed.is_some() {
                return;
            }
            if let Err(error) = made.and_then(|made| (now.take)(number, made)) {
                now.failed = Some(error);
            }
            now.next += 1;
            drop(now);
            moved.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match turn.into_inner().unwrap_or_else(PoisonError::into_inner).failed {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Locks, whether or not another thread panicked with the lock.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(threads: usize, count: usize, bad: &[usize]) -> (Vec<usize>, Option<String>) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut taken = Vec::new();
        let made = |number: usize| {
            anyhow::ensure!(!bad.contains(&number), "bad {number}");
            Ok(number * number)
        };
        let done = pool.install(|| {
            in_order(count, made, |number, square| {
                taken.push(square);
                anyhow::ensure!(number != 90, "full at {number}");
                Ok(())
            })
        });
        (taken, done.err().map(|e| e.to_string()))
    }

    #[test]
    fn results_come_in_order_up_to_the_first_failure() {
        let squares = |count: usize| (0..count).map(|n| n * n).collect::<Vec<_>>();
        for threads in [1, 2, 5] {
            assert_eq!(run(threads, 0, &[]), (vec![], None));
            assert_eq!(run(threads, 80, &[]), (squares(80), None));
            assert_eq!(run(threads, 80, &[31, 30]), (squares(30), Some("bad 30".to_owned())));
            assert_eq!(run(threads, 99, &[]), (squares(91), Some("full at 90".to_owned())));
        }
    }
}
