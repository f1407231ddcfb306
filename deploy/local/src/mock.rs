//! A stand-in for Kafka on machines without Java: the mock broker inside librdkafka.

use crate::LocalError;
use rdkafka::mocking::MockCluster;
use std::sync::mpsc;
use std::thread;

/// A broker that lives in this process and forgets everything with it. It knows producing, fetching, groups and
/// transactions, but no topic settings, no retention and no compaction: it shows that hits flow, and proves nothing
/// about durability.
#[derive(Debug)]
pub struct MockKafka {
    brokers: String,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl MockKafka {
    /// Starts one broker on a free port of 127.0.0.1 with these topics (name, partitions).
    ///
    /// # Errors
    /// When librdkafka can't create the broker or a topic.
    pub fn start(topics: &[(String, i32)]) -> Result<Self, LocalError> {
        let topics = topics.to_vec();
        let (started, outcome) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        // The cluster is not `Send`: it lives and dies on a thread of its own.
        let thread = thread::spawn(move || match create(&topics) {
            Ok(cluster) => {
                let _ = started.send(Ok(cluster.bootstrap_servers()));
                let _: Result<(), _> = stopped.recv();
            }
            Err(problem) => {
                let _ = started.send(Err(problem));
            }
        });
        let brokers = outcome.recv().unwrap_or(Err(rdkafka::error::KafkaError::Canceled));
        let brokers = brokers.map_err(|source| LocalError::Kafka { brokers: "the mock broker".to_owned(), source })?;
        Ok(Self { brokers, stop: Some(stop), thread: Some(thread) })
    }

    /// What clients take as `bootstrap.servers`.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }
}

impl Drop for MockKafka {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn create(
    topics: &[(String, i32)],
) -> rdkafka::error::KafkaResult<MockCluster<'static, impl rdkafka::ClientContext + use<>>> {
    let cluster = MockCluster::new(1)?;
    for (name, partitions) in topics {
        cluster.create_topic(name, *partitions, 1)?;
    }
    Ok(cluster)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_mock_broker_answers_until_it_is_dropped() {
        let mock = MockKafka::start(&[("hits.raw".to_owned(), 2)]).unwrap();
        let brokers = mock.brokers().to_owned();
        assert!(
            brokers.split(',').all(|broker| broker.contains("127.0.0.1:") || broker.contains("localhost:")),
            "{brokers}"
        );
        crate::kafka::reach(&brokers, Duration::from_secs(10)).unwrap();
        drop(mock);
        crate::kafka::reach(&brokers, Duration::from_millis(500)).unwrap_err();
    }
}
