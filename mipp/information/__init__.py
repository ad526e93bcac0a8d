"""Information estimators: arrays in, nats out. No model, no store, no disk.

Once per pair an estimator prepares a state; a walk then asks it thousands of questions.

protocols       the questions: of any channel, of the next one in an order, in samples
estimators      the estimators by name: what each prepares, keeps in a file and answers
moments         sums of rows and their products, streamed; `patches` those of small maps
gaussian        the closed form: `state` once, then `ordered`, `primal` or `dual` steps
reconstruction  the paper's perceptrons: `state` once, then masked re-training
null_column     a column known to tell nothing, for tests of significance
pairwise        single channels with each other, for mRMR and MIFS
shapley         what a channel adds to others, the mean over orders of them, for SAGE
"""
