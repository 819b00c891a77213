//! An operator asks no more of registries than `sync` does: the checks of `request_counts` with the same limits.
//!
//! A first comparison starts with the operator; a later one is requested by annotation.

use super::request_counts::{
    By, images_of_several_platforms, plain_layers, repositories_that_share_a_base, signatures, small_images,
    tags_of_one_image, two_destinations,
};
use crate::support::turns::in_three_tries;

#[tokio::test(flavor = "multi_thread")]
async fn platforms_take_few_requests_more_than_the_least_then_one_a_tag() {
    in_three_tries(async || images_of_several_platforms(By::Operator, "operator-counts-a").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_images_take_few_requests_more_than_the_least() {
    in_three_tries(async || small_images(By::Operator, "operator-counts-b").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_that_share_a_base_get_it_once_and_mount_it() {
    in_three_tries(async || repositories_that_share_a_base(By::Operator, "operator-counts-c").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_take_few_requests_more_than_the_least_and_then_one_a_list() {
    in_three_tries(async || signatures(By::Operator, "operator-counts-f").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_one_image_take_one_request_each_on_either_side() {
    in_three_tries(async || tags_of_one_image(By::Operator, "operator-counts-g").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_not_compressed_arrive_as_they_are_by_few_requests() {
    in_three_tries(async || plain_layers(By::Operator, "operator-counts-i").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_destinations_cost_no_more_than_twice_one() {
    in_three_tries(async || two_destinations(By::Operator, "operator-counts-j").await).await;
}
