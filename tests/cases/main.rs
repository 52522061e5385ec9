//! The built filter under a small host: what each promise comes to, case by case.

mod golden;
