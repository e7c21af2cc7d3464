//! Clients that others wrote, against our server: kube-rs and the Python client. The tests are in `tests/it`.
