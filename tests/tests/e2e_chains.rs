//! The whole way, with money: a wallet is funded on a real EVM node and a real Solana runtime, backed up, lost,
//! recovered on a new device, and what the new device signs spends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use halfkey_api::signing::Eip1559Transfer;
use halfkey_client::{BackupMethod, Identity, OldDevices, Password, PasswordKind, Recovering, RecoveryMethod};
use halfkey_tests::{
    anvil::Anvil,
    deployment::{Backing, Deployment},
    litesvm::LiteSvm,
    phone::Phone,
    spend,
};

const ETHER: u128 = 1_000_000_000_000_000_000;
const SOL: u64 = 1_000_000_000;
const PASSWORD: &str = "seven otters juggle amber lanterns";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovered_wallet_spends_on_real_chains() {
    let (anvil, mut solana) = (Anvil::start().unwrap(), LiteSvm::start().unwrap());
    let deployment = Deployment::start(&Backing::Sqlite).unwrap();
    let client = deployment.new_client().await.unwrap();

    let old = Phone::new(&deployment, &client).unwrap();
    let wallet = old.app.create_wallet().await.unwrap();
    anvil.set_balance(&wallet.ethereum, 2 * ETHER).await.unwrap();
    solana.airdrop(&wallet.solana, 3 * SOL).unwrap();

    let backup = BackupMethod::Password { password: Password::new(PASSWORD), kind: PasswordKind::Password };
    old.app.backup_wallet(backup).await.unwrap();
    assert!(old.app.is_wallet_backed_up().await.unwrap());
    drop(old);

    let new = Phone::new(&deployment, &client).unwrap();
    let open = RecoveryMethod::Password(Password::new(PASSWORD));
    let outcome = new.app.recover_wallet(open, OldDevices::Revoke, Some(wallet.clone())).await.unwrap();
    let Recovering::Recovered(recovered) = outcome else { panic!("{outcome:?}") };
    assert_eq!((&recovered.addresses, recovered.identity), (&wallet, Identity::Confirmed));

    // An account of nobody in particular, as EIP-55 writes it.
    let to = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    assert_eq!(anvil.balance(to).await.unwrap(), 0);
    let transfer = Eip1559Transfer {
        chain_id: Anvil::CHAIN_ID,
        nonce: anvil.nonce(&wallet.ethereum).await.unwrap(),
        to: to.to_owned(),
        value: ETHER + 1,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
    };
    let raw = spend::ethereum(&new.app, &wallet, &transfer).await.unwrap();
    let receipt = anvil.send_raw(&raw).await.unwrap();
    assert!(receipt.success);
    assert_eq!(receipt.from, wallet.ethereum.to_lowercase());
    assert_eq!(anvil.balance(to).await.unwrap(), ETHER + 1);
    assert_eq!(anvil.balance(&wallet.ethereum).await.unwrap(), ETHER - 1 - receipt.fee);

    let to = bs58::encode([7; 32]).into_string();
    let blockhash = solana.blockhash().unwrap();
    let (message, signature) = spend::solana(&new.app, &wallet, &to, SOL, blockhash).await.unwrap();
    assert_eq!(solana.send(&message, &signature).unwrap(), signature);
    assert_eq!(solana.balance(&to).unwrap(), SOL);
    assert_eq!(solana.balance(&wallet.solana).unwrap(), 2 * SOL - 5000);
}
