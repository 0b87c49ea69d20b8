// A Solana virtual machine for one test. Reads one JSON request per line from standard input and answers each with one
// JSON line; ends when standard input ends.
//
//   {"op":"airdrop","address":…,"lamports":"…"}          → {}
//   {"op":"balance","address":…}                         → {"lamports":"…"}
//   {"op":"blockhash"}                                   → {"blockhash":…}
//   {"op":"send","transaction":<hex>}                    → {"accepted":true,"signature":…,"logs":[…]}
//                                                        | {"accepted":false,"reason":…}
import { createInterface } from "node:readline";
import { address, getBase58Decoder, getTransactionDecoder, lamports } from "@solana/kit";
import { FailedTransactionMetadata, LiteSVM } from "litesvm";

const machine = new LiteSVM();

const operations = {
  airdrop(request) {
    const result = machine.airdrop(address(request.address), lamports(BigInt(request.lamports)));
    if (result instanceof FailedTransactionMetadata) throw new Error(result.toString());
    return {};
  },
  balance: (request) => ({ lamports: String(machine.getBalance(address(request.address)) ?? 0n) }),
  blockhash: () => ({ blockhash: machine.latestBlockhash() }),
  send(request) {
    let result;
    try {
      const transaction = getTransactionDecoder().decode(Buffer.from(request.transaction, "hex"));
      result = machine.sendTransaction(transaction);
    } catch (error) {
      return { accepted: false, reason: String(error) };
    }
    if (result instanceof FailedTransactionMetadata) return { accepted: false, reason: result.toString() };
    return { accepted: true, signature: getBase58Decoder().decode(result.signature()), logs: result.logs() };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const request = JSON.parse(line);
    answer = operations[request.op](request);
  } catch (error) {
    answer = { error: String(error) };
  }
  console.log(JSON.stringify(answer));
}
